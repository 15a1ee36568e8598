"""What a person should know about a voice that can be read: what stands in its way, and what only sounds suspicious.

Judges one voice at a time, from what the engine read. Prints nothing and changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from commands.voice_recording import level_warnings
from tts_engine import SAMPLE_RATE, manifests, voice_library

LANGUAGES = {
    "zh": "chinese",
    "en": "english",
    "fr": "french",
    "de": "german",
    "it": "italian",
    "ja": "japanese",
    "ko": "korean",
    "pt": "portuguese",
    "ru": "russian",
    "es": "spanish",
}
"""What the released checkpoints speak, by ISO code."""

_CONTROL_TOKEN = re.compile(r"<\|[^|]*\|>")


@dataclass(frozen=True)
class SpeakingRate:
    """Characters a second between which speech lies, with room for the slowest and the fastest."""

    least: float
    most: float


ALPHABETIC = SpeakingRate(2, 40)
SYLLABIC = SpeakingRate(0.7, 16)
"""Chinese characters, kana and hangul, each of which takes a syllable or more."""


@dataclass(frozen=True)
class Remarks:
    """problems: why no server will speak in it. warnings: what may be heard."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def remarks_about(folder: Path, voice: voice_library.VoiceFolder) -> Remarks:
    """What there is to say about the voice that was read from `folder`."""
    manifest = voice.manifest
    problems = []
    if not recipes(manifest):
        problems.append("no checkpoint can make it: it has neither reference_audio nor speaker nor instruct")
    problems += text_problems(manifest.language, manifest.reference_text, manifest.instruct)
    warnings = []
    if voice.reference is not None and manifest.reference_audio is not None:
        recorded, _ = manifests.read_recording(folder / manifest.reference_audio)
        warnings += level_warnings(recorded, float(np.abs(voice.reference.samples).max()))
        warnings += transcript_warnings(voice.reference.text, len(voice.reference.samples) / SAMPLE_RATE)
    elif manifest.reference_text is not None:
        warnings.append("it has a reference_text, but no reference_audio")
    return Remarks(tuple(problems), tuple(warnings))


def recipes(manifest: manifests.Manifest) -> list[str]:
    """The keys of a manifest that let a checkpoint make the voice."""
    return [key for key in ("reference_audio", "speaker", "instruct") if getattr(manifest, key)]


def text_problems(language: str | None, reference_text: str | None, instruct: str | None) -> list[str]:
    """Texts of a manifest that a server refuses: a language no checkpoint has, and markup of the prompt."""
    problems = []
    wanted, names = (language or "auto").strip().lower(), ["auto", *LANGUAGES.values()]
    if wanted not in names and wanted.split("-")[0] not in LANGUAGES:
        problems.append(f"language {wanted[:80]!r} is not one of {', '.join(names)}")
    for key, text in (("reference_text", reference_text), ("instruct", instruct)):
        token = _CONTROL_TOKEN.search(text or "")
        if token is not None:
            problems.append(f"{key} contains the control token {token.group()!r}")
    return problems


def transcript_warnings(text: str | None, seconds: float) -> list[str]:
    """A transcript that cannot be what is said in a recording of that length, or is missing."""
    if text is None:
        return ["it has no transcript, so its clone follows the voice alone, not the manner of speaking"]
    rate = SYLLABIC if _is_syllabic(text) else ALPHABETIC
    spoken = len(text) / seconds
    if rate.least <= spoken <= rate.most:
        return []
    return [
        f"the transcript has {len(text)} characters for {seconds:.1f} s, {spoken:.1f} a second; "
        f"speech has from {rate.least:g} to {rate.most:g}"
    ]


def _is_syllabic(text: str) -> bool:
    """Whether most letters of a text are Chinese characters, kana or hangul."""
    letters = [character for character in text if character.isalpha()]
    syllables = sum(unicodedata.east_asian_width(letter) == "W" for letter in letters)
    return 2 * syllables > len(letters)
