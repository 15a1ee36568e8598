"""What the engine counts for metrics. Knows nothing of what it counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Statistics:
    """Who is there now, and counts since the engine was made. Written by the engine thread, read by any.

    active: utterances in a slot; waiting: for one. ended: utterances by the reason of their end.
    underruns: frames that left after a listener who plays at once had run out of sound.
    steps, step_seconds_total: frame steps, and the time they took.
    """

    active: int = 0
    waiting: int = 0
    frames: int = 0
    ended: Counter[str] = field(default_factory=Counter)
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
