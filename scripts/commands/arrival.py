"""Speech as it arrives: into a file and a player, with its figures. Knows nothing of where it comes from."""

import contextlib
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from commands import CommandFailed
from commands.player import Player

SAMPLE_RATE = 24_000
BYTES_PER_SAMPLE = 2


@dataclass
class Arrival:
    """What came for one text; times are seconds since the request was sent."""

    file: wave.Wave_write | None = None
    player: Player | None = None
    begun: float = field(default_factory=time.monotonic)
    pcm_bytes: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    generation_s: float | None = None
    cancelled: bool = False

    @property
    def duration_s(self) -> float:
        return self.pcm_bytes / BYTES_PER_SAMPLE / SAMPLE_RATE

    def add(self, pcm: bytes) -> None:
        """Takes the next piece of sound."""
        self.last_s = time.monotonic() - self.begun
        if self.first_s is None:
            self.first_s = self.last_s
        self.pcm_bytes += len(pcm)
        if self.file is not None:
            self.file.writeframes(pcm)
        if self.player is not None:
            self.player.play(pcm)

    def summary(self) -> str:
        if self.first_s is None:
            return "no audio came"
        # What is sent no faster than it is heard says nothing of how fast it was made.
        factor = (self.last_s if self.generation_s is None else self.generation_s) / self.duration_s
        first_ms = round(self.first_s * 1000)
        return f"first audio after {first_ms} ms, {self.duration_s:.2f} s of speech, real-time factor {factor:.2f}"


@contextlib.contextmanager
def wave_file(path: Path) -> Iterator[wave.Wave_write]:
    """A WAV whose header `writeframes` keeps right, so that an interrupted file plays."""
    try:
        # Unbuffered, so that what has arrived is in the file even if this process is killed.
        raw = path.open("wb", buffering=0)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None
    with raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(BYTES_PER_SAMPLE)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(b"")
        yield file
