"""Who runs in the next step: the waiting line, the rows of the batch, and who was set aside.

Running utterances always fill slots 0 … n-1 without a gap, so that a step is a prefix of every static buffer;
when one leaves, the last moves into its place. Who gives way to whom is decided in turns.py. Knows no tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

from .request import Utterance


@dataclass(frozen=True)
class Move:
    """The state of slot `source` must be copied to slot `target`."""

    source: int
    target: int


class Scheduler:
    """Who waits, who runs in which of `slots` slots, and who is parked. Used by the engine thread alone."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._waiting: dict[int, Utterance] = {}
        self._running: list[Utterance] = []
        self._parked: dict[int, Utterance] = {}
        self._slot_of: dict[int, int] = {}

    @property
    def running(self) -> tuple[Utterance, ...]:
        """Utterances by slot."""
        return tuple(self._running)

    @property
    def waiting(self) -> tuple[Utterance, ...]:
        """Utterances that have had no slot yet, the longest waiting first."""
        return tuple(self._waiting.values())

    @property
    def parked(self) -> tuple[Utterance, ...]:
        """Utterances whose slot went to another for a while."""
        return tuple(self._parked.values())

    @property
    def next_ready(self) -> Utterance | None:
        """Who of those ready to come in has waited longest."""
        return next((utterance for utterance in self._waiting.values() if utterance.ready), None)

    def enqueue(self, utterance: Utterance) -> None:
        """Put an utterance at the end of the line."""
        self._waiting[utterance.id] = utterance

    def enter(self, utterance: Utterance) -> int:
        """Give a waiting or parked utterance the next free slot."""
        assert len(self._running) < self.slots, "there must be a free slot"
        self._leave_line(utterance)
        slot = self._slot_of[utterance.id] = len(self._running)
        self._running.append(utterance)
        return slot

    def swap(self, slot: int, utterance: Utterance) -> None:
        """Park who runs in `slot`, and give it to a waiting or parked utterance."""
        self._leave_line(utterance)
        self._set_aside(slot)
        self._running[slot] = utterance
        self._slot_of[utterance.id] = slot

    def park(self, slot: int) -> Move | None:
        """Park who runs in `slot`. The move, if one is returned, must be carried out before anything else runs."""
        self._set_aside(slot)
        return self._close_gap(slot)

    def find(self, utterance_id: int) -> Utterance | None:
        """An utterance that has not been taken out; None when there is none of this id."""
        slot = self._slot_of.get(utterance_id)
        if slot is not None:
            return self._running[slot]
        return self._waiting.get(utterance_id) or self._parked.get(utterance_id)

    def withdraw(self, utterance_id: int) -> Utterance | None:
        """Take an utterance out that is in no slot; None when it is not there."""
        return self._waiting.pop(utterance_id, None) or self._parked.pop(utterance_id, None)

    def slot_of(self, utterance_id: int) -> int | None:
        """The slot of a running utterance; None when it is not running."""
        return self._slot_of.get(utterance_id)

    def retire(self, slot: int) -> Move | None:
        """Free a slot. The move, if one is returned, must be carried out before anything else runs."""
        del self._slot_of[self._running[slot].id]
        return self._close_gap(slot)

    def drain(self) -> list[Utterance]:
        """Take everybody out: running, parked, waiting."""
        everybody = [*self._running, *self._parked.values(), *self._waiting.values()]
        for place in (self._running, self._parked, self._waiting, self._slot_of):
            place.clear()
        return everybody

    def _leave_line(self, utterance: Utterance) -> None:
        left = self.withdraw(utterance.id)
        assert left is utterance, "who comes in was waiting or parked"

    def _set_aside(self, slot: int) -> None:
        leaving = self._running[slot]
        del self._slot_of[leaving.id]
        self._parked[leaving.id] = leaving

    def _close_gap(self, slot: int) -> Move | None:
        last = self._running.pop()
        if slot == len(self._running):
            return None
        self._running[slot] = last
        self._slot_of[last.id] = slot
        return Move(source=len(self._running), target=slot)
