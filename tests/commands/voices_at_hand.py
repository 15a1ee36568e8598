"""Sound and voices for the tests of the commands that make voices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tts_engine import manifests, voice_library

Samples = npt.NDArray[np.float32]
Run = Callable[..., tuple[int, str, str]]

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "voices"
TEXT = "A sentence of the usual length."


def tone(seconds: float = 2.0, rate: int = 24_000, channels: int = 1, amplitude: float = 0.5) -> Samples:
    """Something that passes for speech, (N, channels)."""
    times = np.arange(round(seconds * rate)) / rate
    mono = amplitude * np.sin(2 * np.pi * 220 * times)
    return np.repeat(mono[:, None], channels, axis=1).astype(np.float32)


def padded(samples: Samples, before: float, after: float, rate: int = 24_000) -> Samples:
    return np.pad(samples, ((round(before * rate), round(after * rate)), (0, 0)))


def reference(library: Path, name: str = "one") -> manifests.Reference:
    voice = voice_library.VoiceLibrary(library).get(name)
    assert voice is not None
    assert voice.reference is not None
    return voice.reference
