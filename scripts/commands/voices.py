"""scripts/voices: lists, adds, checks and removes the voices a server can speak in.

Works on the voices directory alone; a running server notices by itself. Needs no checkpoint and no device.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from commands import CommandFailed
from commands.voice_folder import VoiceDirectory
from commands.voice_recording import read_sound_file, write_recording
from commands.voice_remarks import (
    recipes,
    remarks_about,
    text_problems,
    transcript_warnings,
)
from tts_engine import SAMPLE_RATE, LoadError, voice_library

VOICES = Path(__file__).resolve().parents[2] / "voices"
RECORDING = "reference.wav"

_OPTIONAL_KEYS = {
    "--description": "who this is, in a sentence for people",
    "--language": "what it speaks when a request names no language; a name such as english, an ISO code, or auto",
    "--speaker": "the speaker that stands in for it on a CustomVoice checkpoint",
    "--instruct": "the description it is made from on a VoiceDesign checkpoint",
    "--source": "where the recording comes from",
    "--licence": "under which licence, or with whose consent, it may be used",
}


def show_list(directory: VoiceDirectory, options: argparse.Namespace) -> int:
    """One line per voice, those that cannot be read included."""
    library = directory.library
    for name in library.names():
        try:
            print(f"{name}: {_described(_voice(library, name))}")
        except LoadError as error:
            print(f"{name}: cannot be used: {error}")
    return 0


def add(directory: VoiceDirectory, options: argparse.Namespace) -> int:
    """Make a voice of a sound file."""
    directory.require_free(options.id)
    manifest = _manifest(options)
    recording = read_sound_file(options.file)
    directory.add(options.id, manifest, lambda path: write_recording(path, recording.samples))
    warnings = transcript_warnings(manifest.get("reference_text"), recording.seconds)
    for warning in (*recording.warnings, *warnings):
        print(f"voices: warning: {options.id}: {warning}", file=sys.stderr)
    print(f"{directory.path / options.id}: {recording.seconds:.2f} s")
    return 0


def check(directory: VoiceDirectory, options: argparse.Namespace) -> int:
    """Read voices the way a server does; 1 when one of them cannot be used."""
    library = directory.library
    names = library.names()
    if options.id is not None:
        if options.id not in names:
            raise CommandFailed(f"{directory.path} has no voice {options.id[:80]!r}")
        names = [options.id]
    problems = [_check(directory.path, library, name) for name in names]
    return 1 if any(problems) else 0


def remove(directory: VoiceDirectory, options: argparse.Namespace) -> int:
    """Delete a voice, once the user has agreed."""
    files = directory.files_of(options.id)
    if not options.yes:
        listed = ", ".join(file.name for file in files)
        try:
            answer = input(f"Delete {directory.path / options.id} ({listed})? [y/N] ")
        except EOFError:
            print()
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandFailed(f"{options.id} was kept; answer y, or give --yes")
    directory.remove(options.id)
    print(f"{options.id} is removed")
    return 0


def _voice(library: voice_library.VoiceLibrary, name: str) -> voice_library.VoiceFolder:
    """A voice that was listed a moment ago. Raises LoadError when it cannot be used."""
    voice = library.get(name)
    if voice is None:
        raise LoadError("it has just been removed")
    return voice


def _described(voice: voice_library.VoiceFolder) -> str:
    manifest, parts = voice.manifest, []
    if voice.reference is not None:
        transcript = "with a transcript" if voice.reference.text else "without a transcript"
        parts.append(f"reference {len(voice.reference.samples) / SAMPLE_RATE:.2f} s {transcript}")
    if manifest.speaker:
        parts.append(f"speaker {manifest.speaker}")
    if manifest.instruct:
        parts.append("instruct")
    return f"{manifest.name} ({manifest.language or 'auto'}); {', '.join(parts) or 'no recipe'}"


def _check(path: Path, library: voice_library.VoiceLibrary, name: str) -> bool:
    """Print what there is to say about a voice; returns whether it cannot be used."""
    try:
        voice = _voice(library, name)
        remarks = remarks_about(path / name, voice)
    except LoadError as error:
        print(f"{name}: cannot be used: {error}")
        return True
    told = [*(f"cannot be used: {problem}" for problem in remarks.problems)]
    told += [f"warning: {warning}" for warning in remarks.warnings]
    print(f"{name}: {'; '.join(told) or 'ok, ' + ', '.join(recipes(voice.manifest))}")
    return bool(remarks.problems)


def _manifest(options: argparse.Namespace) -> dict[str, str]:
    """The manifest of the voice that the options describe. Raises CommandFailed for a value it cannot hold."""
    values = {"name": options.name if options.name is not None else options.id}
    values |= {key: getattr(options, key) for key in ("description", "language")}
    values |= {"reference_audio": RECORDING, "reference_text": options.text}
    values |= {key: getattr(options, key) for key in ("speaker", "instruct", "source", "licence")}
    given = {key: value.strip() for key, value in values.items() if value is not None}
    for key, value in given.items():
        if not value:
            raise CommandFailed(f"{key} is empty")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise CommandFailed(f"{key} is not valid UTF-8") from error
    for problem in text_problems(*(given.get(key) for key in ("language", "reference_text", "instruct"))):
        raise CommandFailed(problem)
    return given


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="voices", description="The voices a server can speak in.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--voices",
        type=Path,
        default=Path(os.environ.get("QWEN3_TTS_VOICES") or VOICES),
        metavar="DIR",
        help="the voices directory (default: $QWEN3_TTS_VOICES, else this repository's)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", parents=[shared], help="one line per voice")
    listing.set_defaults(run=show_list)
    adding = commands.add_parser("add", parents=[shared], help="make a voice of a recording")
    adding.add_argument("id", metavar="NAME", help="its id, which requests use: a-z, 0-9, _ and -")
    adding.add_argument("file", type=Path, metavar="FILE", help="a recording of one person, of any usual format")
    adding.add_argument("--text", help="the words of the recording, exactly; without them only the timbre is cloned")
    adding.add_argument("--name", help="its name for people (default: NAME)")
    for option, meaning in _OPTIONAL_KEYS.items():
        adding.add_argument(option, help=meaning)
    adding.set_defaults(run=add)
    checking = commands.add_parser("check", parents=[shared], help="read voices the way a server does")
    checking.add_argument("id", nargs="?", metavar="NAME", help="only this one")
    checking.set_defaults(run=check)
    removing = commands.add_parser("remove", parents=[shared], help="delete a voice")
    removing.add_argument("id", metavar="NAME")
    removing.add_argument("--yes", action="store_true", help="without asking")
    removing.set_defaults(run=remove)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when all went well, 1 when something failed or a voice cannot be used, 2 for wrong usage."""
    # What the engine would log about a voice is part of what is printed here.
    logging.getLogger("tts_engine").addHandler(logging.NullHandler())
    options = _arguments(arguments)
    try:
        return options.run(VoiceDirectory(options.voices), options)
    except CommandFailed as reason:
        print(f"voices: {reason}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
