"""Speech as it arrives: into a file and a player, with its figures. Knows nothing of where it comes from."""

import time
from dataclasses import dataclass, field

from commands.player import Player
from commands.recording import BYTES_PER_SAMPLE, SAMPLE_RATE, Recording


@dataclass
class Arrival:
    """What came for one text; times are seconds since the request was sent."""

    recording: Recording | None = None
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
        if self.recording is not None:
            self.recording.write(pcm)
        if self.player is not None:
            self.player.play(pcm)

    def summary(self) -> str:
        if self.first_s is None:
            return "no audio came"
        # What is sent no faster than it is heard says nothing of how fast it was made.
        factor = (self.last_s if self.generation_s is None else self.generation_s) / self.duration_s
        first_ms = round(self.first_s * 1000)
        return f"first audio after {first_ms} ms, {self.duration_s:.2f} s of speech, real-time factor {factor:.2f}"
