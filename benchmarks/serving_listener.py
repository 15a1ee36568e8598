"""What a listener got of one utterance and when, and what a player would have made of it.

Knows nothing of how the sound came.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

SAMPLE_RATE = 24_000
BYTES_PER_SAMPLE = 2
AUDIBLE_DBFS = -60.0
AUDIBLE_SAMPLE = 32_768 * 10 ** (AUDIBLE_DBFS / 20)
"""A sample louder than this can be heard; Qwen3-TTS likes to begin with a frame of silence, which is no answer."""
GAP_S = 0.001
"""What a player's own buffer bridges unheard: a shorter lack of sound is no underrun."""

Outcome = Literal["complete", "refused", "error", "cancelled"]


@dataclass(frozen=True)
class Underruns:
    """How often a player had nothing to play before the end, and for how long altogether."""

    count: int
    seconds: float


@dataclass
class Hearing:
    """What came of one request. Times are seconds of the monotonic clock; due: when it had to be sent.

    arrivals: time and number of samples of each piece of sound. audible: when the piece with the first sample above
    AUDIBLE_DBFS came.
    """

    due: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    audible: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None
    reason: str = ""

    def heard(self, pcm: bytes | memoryview, at: float) -> None:
        """Takes a piece of 16-bit PCM that came at a time."""
        if not pcm:
            return
        self.arrivals.append((at, len(pcm) // BYTES_PER_SAMPLE))
        if self.audible is None and _is_audible(pcm):
            self.audible = at

    def end(self, outcome: Outcome, reason: str = "") -> None:
        """Nothing more comes."""
        self.ended, self.outcome, self.reason = time.monotonic(), outcome, reason

    @property
    def samples(self) -> int:
        """All that came."""
        return sum(samples for _, samples in self.arrivals)

    @property
    def first_s(self) -> float | None:
        """From when it was due to its first sound, silent or not."""
        return self.arrivals[0][0] - self.due if self.arrivals else None

    @property
    def audible_s(self) -> float | None:
        """From when it was due to the first sound that can be heard."""
        return None if self.audible is None else self.audible - self.due

    @property
    def whole_s(self) -> float | None:
        """From when it was due to its end."""
        return None if self.ended is None else self.ended - self.due

    def underruns(self, wait_s: float) -> Underruns:
        """Those of a player that begins `wait_s` after the first sound, and goes on as soon as there is more."""
        if not self.arrivals:
            return Underruns(0, 0.0)
        count, silent_s = 0, 0.0
        first_at, samples = self.arrivals[0]
        played_until = first_at + wait_s + samples / SAMPLE_RATE
        for at, more in self.arrivals[1:]:
            if at > played_until + GAP_S:
                count += 1
                silent_s += at - played_until
                played_until = at
            played_until += more / SAMPLE_RATE
        return Underruns(count, silent_s)

    def lateness(self) -> list[float]:
        """For each piece after the first: how much later it came than a player that never stops had to have it.

        Seconds; negative for a piece that came early.
        """
        late: list[float] = []
        samples = 0
        for at, more in self.arrivals:
            late.append(at - self.arrivals[0][0] - samples / SAMPLE_RATE)
            samples += more
        return late[1:]


def _is_audible(pcm: bytes | memoryview) -> bool:
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.int32)
    return bool(np.abs(samples).max() > AUDIBLE_SAMPLE)
