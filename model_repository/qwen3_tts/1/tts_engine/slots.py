"""Carries out on the device what the scheduler decides: who starts, moves, is set aside, goes on, and is given text.

Knows nothing of why.
"""

from __future__ import annotations

from collections.abc import Sequence

from .config import SAMPLES_PER_FRAME, EngineConfig
from .reading import Reading
from .request import SpokenSegment, Utterance
from .runner import Parked, Runner
from .scheduler import Move, Scheduler
from .turns import Claim


class Slots:
    """The rows of the device's buffers, in step with the scheduler. Used by the engine thread alone."""

    def __init__(self, config: EngineConfig, scheduler: Scheduler, runner: Runner) -> None:
        self._config, self._scheduler, self._runner = config, scheduler, runner
        self._parked: dict[int, Parked] = {}
        self._parked_bytes = 0

    @property
    def may_park(self) -> bool:
        """Whether the memory for those set aside has room; the last one may overrun it."""
        return self._parked_bytes < self._config.parked_bytes

    def seat(self, claim: Claim) -> Utterance | None:
        """Carry out a claim. Who is returned comes new and has its slot, in which it must `start`."""
        utterance, slot = claim.utterance, claim.gives_way
        if slot is not None:
            self._copy_out(slot)
        if utterance is None:
            assert slot is not None, "a claim of nobody empties a slot"
            self.follow(self._scheduler.park(slot))
            return None
        if slot is None:
            slot = self._scheduler.enter(utterance)
        else:
            self._scheduler.swap(slot, utterance)
        if not utterance.generation:
            return utterance
        self._copy_in(slot, utterance)
        return None

    def start(self, utterance: Utterance, reading: Reading) -> None:
        """Start a segment in the utterance's slot."""
        slot = self._scheduler.slot_of(utterance.id)
        assert slot is not None, "only who has a slot can start"
        prefilled = reading.prefilled
        self._runner.enter(slot, prefilled, utterance.sampling)
        utterance.begin(prefilled.length, prefilled.text, reading.tokens, self._config.max_frames)
        if utterance.script.live is None:
            offset = utterance.sent_frames * SAMPLES_PER_FRAME
            utterance.spoken.append(SpokenSegment(len(utterance.spoken), *reading.span, offset))
            utterance.sink.segment(utterance.spoken[-1])

    def lay_out(self, utterance: Utterance, ids: Sequence[int]) -> None:
        """More text for an utterance that has started: at once, or when it has its slot again."""
        slot = self._scheduler.slot_of(utterance.id)
        if slot is None:
            utterance.unlaid += ids
        else:
            self._runner.extend(slot, utterance.trailing, ids, complete=utterance.script.complete)
        utterance.trailing += len(ids)

    def free(self, utterance: Utterance) -> None:
        """Forget what an utterance that has left the scheduler had set aside."""
        kept = self._parked.pop(utterance.id, None)
        if kept is not None:
            self._parked_bytes -= kept.nbytes

    def follow(self, move: Move | None) -> None:
        """Copy one row to another, as the scheduler has moved who runs there."""
        if move is not None:
            moved = self._scheduler.running[move.target]
            self._runner.move(move.source, move.target, moved.length, moved.trailing)

    def _copy_out(self, slot: int) -> None:
        leaving = self._scheduler.running[slot]
        kept = self._runner.park(slot, leaving.length, leaving.trailing)
        self._parked[leaving.id] = kept
        self._parked_bytes += kept.nbytes

    def _copy_in(self, slot: int, utterance: Utterance) -> None:
        laid = utterance.trailing - len(utterance.unlaid)
        self._runner.unpark(slot, self._parked[utterance.id], utterance.length, laid)
        self.free(utterance)
        if utterance.unlaid:
            self._runner.extend(slot, laid, utterance.unlaid, complete=utterance.script.complete)
            utterance.unlaid = []
