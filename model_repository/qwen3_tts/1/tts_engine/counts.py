"""What the engine counts for metrics. Knows nothing of what it counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Statistics:
    """Who is there now, and counts since the engine was made. Written by the engine, read by any thread.

    active: utterances in a slot; parked: set aside with sound in hand; waiting: for their first slot. ended: by the
    reason of their end. refused: turned away because too many were there. underruns: frames that left after their
    listener had run out of sound. steps, step_seconds_total: frame steps and the time they took, with the prompts
    read right before them.
    """

    active: int = 0
    parked: int = 0
    waiting: int = 0
    frames: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    underruns: int = 0
    steps: int = 0
    step_seconds_total: float = 0.0

    @property
    def utterances(self) -> int:
        """All that have ended."""
        return self.ended.total()

    @property
    def cancelled(self) -> int:
        """Those that were cancelled."""
        return self.ended["cancelled"]

    @property
    def failed(self) -> int:
        """Those that failed."""
        return self.ended["failed"]
