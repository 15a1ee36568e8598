"""Who is taken in: as many as there is room for, and nobody whose slot would come too late.

How long one would wait is told from the pace of the device, and from how much those before have still to say,
estimated from their texts by what texts have needed lately. May be used by any thread.
"""

from __future__ import annotations

import heapq
import threading

from .config import EngineConfig
from .counts import Statistics
from .errors import EngineFailed, Overloaded
from .pace import Pace
from .request import Reason, Utterance

# English is spoken with about three frames a token; what is spoken soon outweighs the guess.
_TOKENS, _FRAMES = 20.0, 60.0
_SMOOTHING = 0.05
# One that has outlived its estimate is taken to have so much of it still to go.
_OVERDUE = 0.1
_SOONEST_RETRY_SECONDS = 0.1


class Admission:
    """Counts utterances in and out."""

    def __init__(self, config: EngineConfig, pace: Pace, statistics: Statistics, closed: str) -> None:
        """closed: why nobody is taken in until it is opened."""
        self._config, self._pace, self._statistics = config, pace, statistics
        self._closed: str | None = closed
        self._lock = threading.Lock()
        self._unfinished: dict[int, Utterance] = {}
        self._tokens, self._frames = _TOKENS, _FRAMES

    @property
    def closed(self) -> str | None:
        """Why nobody is taken in; None when people are."""
        return self._closed

    @property
    def unfinished(self) -> int:
        """How many have been counted in and not out."""
        return len(self._unfinished)

    def open(self) -> None:
        """Take people in from now on."""
        self._closed = None

    def close(self, why: str) -> None:
        """Take in nobody any more."""
        with self._lock:
            self._closed = why

    def check(self) -> None:
        """Raises EngineFailed or Overloaded when an utterance that came now would be refused."""
        with self._lock:
            self._refuse()

    def enter(self, utterance: Utterance) -> None:
        """Count an utterance in. Raises EngineFailed and Overloaded."""
        with self._lock:
            self._refuse()
            self._unfinished[utterance.id] = utterance

    def leave(self, utterance: Utterance, reason: Reason | None) -> None:
        """Count an utterance out, and learn from one that was spoken to its end how long texts are."""
        with self._lock:
            del self._unfinished[utterance.id]
            if reason == "complete" and utterance.tokens:
                self._tokens += _SMOOTHING * (utterance.tokens - self._tokens)
                self._frames += _SMOOTHING * (utterance.total_frames - self._frames)

    def _refuse(self) -> None:
        if self._closed is not None:
            raise EngineFailed(f"the engine is not running: {self._closed}")
        count, slots, most = len(self._unfinished), self._config.slots, self._config.max_waiting
        if count >= slots + most:
            self._statistics.refused += 1
            raise Overloaded(
                f"{count} utterances are running or waiting; the limit is {slots + most} "
                f"({slots} slots and {most} waiting)",
                self._retry(self._endings()[:1]),
            )
        wait, longest = self._wait(), self._config.max_wait_seconds
        if longest and wait > longest:
            self._statistics.refused += 1
            raise Overloaded(
                f"a slot would be free in about {wait:.1f} s; the longest wait is {longest:g} s",
                self._retry([wait - longest]),
            )

    def _wait(self) -> float:
        """Seconds until one who comes now would have a slot; 0 while there is room, or while nothing is known."""
        places = self._places
        if len(self._unfinished) < places or not self._pace.limits.frames_per_second:
            return 0.0
        endings = self._endings()
        # Where more are inside than there are places, the first to end make room for nobody.
        free_at = endings[max(0, len(endings) - places) :]
        free_at = [0.0] * (places - len(free_at)) + free_at
        for utterance in self._unfinished.values():
            if utterance.admitted is None:
                heapq.heapreplace(free_at, free_at[0] + self._seconds(self._remaining(utterance)))
        return free_at[0]

    def _endings(self) -> list[float]:
        """In how many seconds each of those inside will have been spoken, the first first."""
        inside = [utterance for utterance in self._unfinished.values() if utterance.admitted is not None]
        return sorted(self._seconds(self._remaining(utterance)) for utterance in inside)

    @property
    def _places(self) -> int:
        limits = self._pace.limits
        return limits.listeners if self._config.parked_mb else limits.width

    def _seconds(self, frames: float) -> float:
        """How long so many frames take when all places are taken; 0 while nothing is known."""
        rate = self._pace.limits.frames_per_second / self._places
        return frames / rate if rate else 0.0

    def _remaining(self, utterance: Utterance) -> float:
        """Frames an utterance has still to make. Of text that is still being written, as much as texts have."""
        tokens = utterance.tokens if utterance.script.complete else max(utterance.tokens, self._tokens)
        whole = min(tokens * self._frames / self._tokens, utterance.max_frames)
        return max(whole - utterance.total_frames, _OVERDUE * whole)

    @staticmethod
    def _retry(waits: list[float]) -> float | None:
        """When to try again; None when nothing is known."""
        return max(round(waits[0], 2), _SOONEST_RETRY_SECONDS) if waits and waits[0] else None
