"""Voice folders on disk for tests, with something in them that passes for a recording."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tts_engine import voice_library
from tts_engine.voice_library import VoiceLibrary

RATE = 24_000


def speech(seconds: float = 2.0, rate: int = RATE, seed: int = 0, amplitude: float = 0.3) -> np.ndarray:
    """Something that passes for a recording, mono."""
    return np.random.default_rng(seed).uniform(-amplitude, amplitude, round(seconds * rate)).astype(np.float32)


def voice(library: Path, name: str = "one", samples: Any = None, content: Any = None, **values: Any) -> Path:
    """A voice folder with reference.wav when there are samples, and the manifest {"name": "One", **values}."""
    folder = library / name
    folder.mkdir(parents=True, exist_ok=True)
    if samples is not None:
        soundfile.write(folder / "reference.wav", samples, RATE, subtype="FLOAT")
        values.setdefault("reference_audio", "reference.wav")
    text = content if isinstance(content, str) else json.dumps(content or {"name": "One", **values})
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return folder


def reading(library: Path, name: str = "one") -> voice_library.VoiceFolder:
    found = VoiceLibrary(library).get(name)
    assert found is not None
    return found


def key_of(found: voice_library.VoiceFolder | None) -> str:
    assert found is not None
    assert found.reference is not None
    return found.reference.key
