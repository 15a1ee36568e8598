"""Who runs in the next step: the waiting line, and the rows of the batch.

Running utterances always fill slots 0 … n-1 without a gap, so that a step is a prefix of every static buffer;
when one leaves, the last moves into its place. Knows no tensor and no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .request import Utterance


@dataclass(frozen=True)
class Move:
    """The state of slot `source` must be copied to slot `target`."""

    source: int
    target: int


class Scheduler:
    """First ready, first served, in `slots` slots. Used by the engine thread alone."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._waiting: dict[int, Utterance] = {}
        self._running: list[Utterance] = []

    @property
    def running(self) -> tuple[Utterance, ...]:
        """Utterances by slot."""
        return tuple(self._running)

    @property
    def waiting(self) -> tuple[Utterance, ...]:
        """Utterances without a slot, the longest waiting first."""
        return tuple(self._waiting.values())

    @property
    def has_work(self) -> bool:
        """Whether somebody can be admitted or stepped now."""
        if any(not utterance.dry for utterance in self._running):
            return True
        return len(self._running) < self._slots and any(utterance.ready for utterance in self._waiting.values())

    def enqueue(self, utterance: Utterance) -> None:
        """Put an utterance at the end of the line."""
        self._waiting[utterance.id] = utterance

    def admit(self) -> Iterator[tuple[Utterance, int]]:
        """Give free slots to those ready and waiting longest: (utterance, slot), one after the other."""
        for utterance in self.waiting:
            if len(self._running) == self._slots:
                return
            if utterance.ready:
                del self._waiting[utterance.id]
                self._running.append(utterance)
                yield utterance, len(self._running) - 1

    def find(self, utterance_id: int) -> Utterance | None:
        """An utterance that waits or runs; None when there is none of this id."""
        waiting = self._waiting.get(utterance_id)
        return waiting or next((u for u in self._running if u.id == utterance_id), None)

    def withdraw(self, utterance_id: int) -> Utterance | None:
        """Take an utterance out of the waiting line; None when it is not there."""
        return self._waiting.pop(utterance_id, None)

    def slot_of(self, utterance_id: int) -> int | None:
        """The slot of a running utterance; None when it is not running."""
        return next((slot for slot, u in enumerate(self._running) if u.id == utterance_id), None)

    def retire(self, slot: int) -> Move | None:
        """Free a slot. The move, if one is returned, must be carried out before anything else runs."""
        last = self._running.pop()
        if slot == len(self._running):
            return None
        self._running[slot] = last
        return Move(source=len(self._running), target=slot)

    def drain(self) -> list[Utterance]:
        """Take everybody out, running and waiting."""
        everybody = [*self._running, *self._waiting.values()]
        self._running.clear()
        self._waiting.clear()
        return everybody
