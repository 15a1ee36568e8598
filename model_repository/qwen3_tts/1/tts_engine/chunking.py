"""When frames go out: each at once while its listener needs it, in growing chunks once much lies ahead of him.

A response costs about as much whether it carries one frame or eight. What a listener has ahead is what he was sent and
has not played yet. Knows no stream and no clock.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .config import FRAME_SECONDS, SAMPLE_RATE
from .playback import Playback

RESERVE_SECONDS = 0.25
"""A listener who has no more than this ahead is never made to wait for a chunk to fill."""
LARGEST_CHUNK = 8
"""In frames: no longer than the ear would take for a cancel that was not heard, 0.64 s."""

Samples = npt.NDArray[np.int16]


class Chunks:
    """The frames of one listener that have been made and not sent. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._frames: list[Samples] = []
        self._playback = Playback()

    def add(self, frame: Samples) -> None:
        """A frame was made, (N,)."""
        self._frames.append(frame)

    def due(self, now: float) -> bool:
        """Whether what there is must go: it is a chunk, or the listener will need it soon."""
        if not self._frames:
            return False
        ahead = self._playback.lead(now) - RESERVE_SECONDS
        return ahead <= 0 or len(self._frames) >= _wanted(ahead)

    def take(self, now: float) -> Samples:
        """All there is, which is sent now; empty when there is nothing."""
        if not self._frames:
            return _NOTHING
        taken = self._frames[0] if len(self._frames) == 1 else np.concatenate(self._frames)
        self._frames.clear()
        self._playback.add(len(taken) / SAMPLE_RATE, now)
        return taken


def _wanted(ahead: float) -> int:
    """Frames of a chunk: 1, 2, 4 or 8, at most about half of what lies ahead."""
    return min(LARGEST_CHUNK, 1 << (int(ahead / FRAME_SECONDS) // 2).bit_length())


_NOTHING = np.zeros(0, dtype=np.int16)
