"""In soundfile's place where it cannot be installed: 16-bit WAV alone, which the shipped voices' recordings are."""

import wave
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt


class LibsndfileError(RuntimeError):
    """What soundfile raises for a file it cannot read."""


class SoundFile:
    """An open WAV file."""

    def __init__(self, path: object) -> None:
        """Raises LibsndfileError for any other kind."""
        try:
            self._file = wave.open(str(path), "rb")  # noqa: SIM115 - closed by __exit__
        except (OSError, EOFError, wave.Error) as error:
            raise LibsndfileError(f"soundfile is not installed, and {path} is no plain WAV: {error}") from error
        self.samplerate = self._file.getframerate()
        if self._file.getsampwidth() != 2:
            raise LibsndfileError(f"soundfile is not installed, and {path} does not have samples of 16 bits")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, frames: int, dtype: str, always_2d: bool) -> npt.NDArray[np.float32]:
        """Up to so many samples, (N, channels), full scale at 1."""
        assert dtype == "float32", "the engine reads nothing else"
        assert always_2d, "the engine reads nothing else"
        samples = np.frombuffer(self._file.readframes(frames), dtype="<i2")
        return (samples.reshape(-1, self._file.getnchannels()) / 32_768).astype(np.float32)
