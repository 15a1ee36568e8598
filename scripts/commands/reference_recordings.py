"""scripts/make_reference_recordings: the recordings of this repository's own voices, spoken by espeak-ng.

Each voice's manifest says what is spoken. No person's voice is in them, so anybody may use them. The same espeak-ng
makes the same bytes again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from commands import CommandFailed
from commands.voice_recording import read_sound_file, write_recording
from tts_engine import LoadError, audio, manifests

VOICES = Path(__file__).resolve().parents[2] / "voices"
SYNTHESISER = "espeak-ng"
MADE_WITH = "1.51"
"""The version of espeak-ng that made the recordings of this repository."""
PEAK = 10 ** (-3 / 20)

# Well below full scale, where espeak-ng clips; the level is set afterwards.
_AMPLITUDE = 60


@dataclass(frozen=True)
class Speaker:
    """How espeak-ng speaks for a voice: a voice of its own, words a minute, and a pitch from 0 to 99."""

    voice: str
    words_per_minute: int
    pitch: int


SPEAKERS = {
    "makima": Speaker("en-us+f4", words_per_minute=140, pitch=40),
    "callum": Speaker("en-gb-scotland+m3", words_per_minute=150, pitch=25),
    "liesel": Speaker("de+f2", words_per_minute=160, pitch=65),
}


def installed_version(synthesiser: str = SYNTHESISER) -> str:
    """Which espeak-ng there is. Raises CommandFailed when there is none."""
    reported = _run([synthesiser, "--version"])
    found = re.search(r"\d+(\.\d+)+", reported)
    return found.group() if found else "unknown"


def make_recording(folder: Path, speaker: Speaker, synthesiser: str = SYNTHESISER) -> Path:
    """Speak a voice folder's reference_text into its reference_audio; returns that path.

    The recording is replaced in one step. Raises CommandFailed.
    """
    try:
        manifest = manifests.read_manifest(folder)
    except LoadError as error:
        raise CommandFailed(str(error)) from error
    if not manifest.reference_audio or not manifest.reference_text:
        raise CommandFailed(f"{folder / manifests.MANIFEST} must have reference_audio and reference_text")
    target = folder / manifest.reference_audio
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent) as workspace:
        spoken, finished = Path(workspace) / "spoken.wav", Path(workspace) / "finished.wav"
        options = ["-v", speaker.voice, "-s", str(speaker.words_per_minute), "-p", str(speaker.pitch)]
        options += ["-a", str(_AMPLITUDE), "-w", str(spoken)]
        _run([synthesiser, *options, "--", manifest.reference_text])
        write_recording(finished, _at_peak(read_sound_file(spoken).samples))
        os.replace(finished, target)
    return target


def _at_peak(samples: audio.Samples) -> audio.Samples:
    return samples * np.float32(PEAK / np.abs(samples).max())


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        reason = "is not installed" if isinstance(error, FileNotFoundError) else f"cannot be run ({error.strerror})"
        raise CommandFailed(f"{command[0]} {reason}; on Debian: apt install espeak-ng") from error
    if done.returncode != 0:
        raise CommandFailed(f"{command[0]} failed: {done.stderr.strip().rpartition(chr(10))[2]}")
    return done.stdout


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make_reference_recordings", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(SPEAKERS)}")
    parser.add_argument("--voices", type=Path, default=VOICES, metavar="DIR", help="where the voice folders are")
    parser.add_argument("--synthesiser", default=SYNTHESISER, metavar="PROGRAM", help=f"default: {SYNTHESISER}")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in SPEAKERS:
            parser.error(f"{name!r} is not one of {', '.join(SPEAKERS)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when every recording was made, 1 when one could not be, 2 for wrong usage."""
    options = _arguments(arguments)
    try:
        version = installed_version(options.synthesiser)
        if version != MADE_WITH:
            told = f"this is espeak-ng {version}; {MADE_WITH} made the recordings of this repository"
            print(f"make_reference_recordings: warning: {told}", file=sys.stderr)
        for name in options.names or SPEAKERS:
            print(make_recording(options.voices / name, SPEAKERS[name], options.synthesiser))
    except (CommandFailed, OSError) as reason:
        print(f"make_reference_recordings: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
