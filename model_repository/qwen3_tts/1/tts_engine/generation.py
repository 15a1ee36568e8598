"""What happens between two looks into the inbox: utterances enter slots, step, change segments, and leave.

On the engine thread. Where the device runs ahead of its host, the next step is launched before the last one's results
are looked at; a step therefore knows whom each row was when it was launched, and what comes of a row whose utterance
has gone on or ended since is dropped. Knows no messages and no other thread.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .config import FRAME_SECONDS, EngineConfig
from .counts import Statistics
from .errors import TtsError
from .pace import TOGETHER_SECONDS, Pace
from .prompt import PromptBuilder
from .reading import Reader
from .request import Outcome, Reason, Utterance, add_text
from .runner import Flight, Frame, Runner
from .scheduler import Scheduler
from .slots import Slots
from .turns import Claim, next_claim, tightest_lead

log = logging.getLogger(__name__)

# Each costs two copies, in which those who speak must wait.
_TURNS_PER_STEP = 4
_SILENT_FRAMES_TRIMMED = 4
# A frame that never gets louder (-80 dBFS) is digital silence, however it was made.
_SILENCE_PEAK = 3


@dataclass(frozen=True)
class _Step:
    """A frame step under way: whose rows it has, as (slot, utterance, which of its generations) at its launch.

    began: when the device was given its work, (monotonic seconds), with so many prompts before the step itself.
    """

    flight: Flight
    size: int
    rows: list[tuple[int, Utterance, int]]
    began: float
    prompts: int


class Generation:
    """All utterances the engine has taken in and not yet ended."""

    def __init__(
        self,
        config: EngineConfig,
        prompts: PromptBuilder,
        runner: Runner,
        pace: Pace,
        ended: Callable[[Utterance, Reason], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """ended: told of each utterance before its sink is. clock: monotonic seconds."""
        self._config, self._prompts, self._runner, self._pace, self._ended = config, prompts, runner, pace, ended
        self._clock = clock
        self.statistics = Statistics()
        self._scheduler = Scheduler(config.slots)
        self._slots = Slots(config, self._scheduler, runner)
        self._reader = Reader(prompts, runner)
        self._under_way: deque[_Step] = deque()
        self._landed_at = 0.0
        # When the prompts were begun, and how many, that the device reads before the next step without it.
        self._read: tuple[float, int] | None = None

    @property
    def has_work(self) -> bool:
        """Whether `advance` would do anything now."""
        if self._under_way or any(u.can_speak for u in self._scheduler.running):
            return True
        return self._next_claim() is not None

    def enqueue(self, utterance: Utterance) -> None:
        """Take in an utterance."""
        self._scheduler.enqueue(utterance)

    def find(self, utterance_id: int) -> Utterance | None:
        """An utterance that has not ended."""
        return self._scheduler.find(utterance_id)

    def extend(self, utterance_id: int, ids: Sequence[int], *, complete: bool) -> None:
        """More text has come for a live utterance; for one that has ended it is too late, and nothing happens."""
        utterance = self._scheduler.find(utterance_id)
        if utterance is None:
            return
        add_text(utterance, ids, self._clock(), complete=complete, longest=self._config.max_frames)
        if utterance.generation:
            self._slots.lay_out(utterance, (*ids, *self._prompts.end_of_text()) if complete else ids)
        elif complete and not utterance.script.live:
            # Nothing was ever said.
            self.end(utterance_id, "complete")

    def end(self, utterance_id: int, reason: Reason, error: TtsError | None = None) -> None:
        """End an utterance, wherever it is; unknown ids are ignored."""
        slot = self._scheduler.slot_of(utterance_id)
        if slot is not None:
            # Before the copy: should that fail, this utterance stands in no list and nobody else would end it.
            utterance = self._scheduler.running[slot]
            move = self._scheduler.retire(slot)
            self._end(utterance, reason, error)
            self._slots.follow(move)
            return
        withdrawn = self._scheduler.withdraw(utterance_id)
        if withdrawn is not None:
            self._end(withdrawn, reason, error)

    def end_all(self, reason: Reason, error: TtsError | None) -> None:
        """End everybody, without touching the device; a sink that raises keeps no other from its end."""
        for utterance in self._scheduler.drain():
            try:
                self._end(utterance, reason, error)
            except Exception:  # the engine's last act: each must be told
                log.exception("a sink has raised at the end of utterance %d", utterance.id)

    def deadline(self) -> float | None:
        """When the first of those who wait for text will have waited too long (monotonic seconds)."""
        starving = [utterance.last_text for utterance in self._starving()]
        return min(starving) + self._config.text_idle_seconds if starving else None

    def advance(self) -> None:
        """Let in who can come in, start a frame for all who can speak, and hand out the frames that are due."""
        self._expire()
        began, prompts = self._read or (self._clock(), 0)
        self._read = None
        let_in = self._let_in()
        prompts += let_in
        self._publish()
        if let_in and self._opening and any(u.can_speak for u in self._scheduler.running):
            # Of a crowd the first has come alone: before its first step, see who came while its prompt was read.
            self._read = (began, prompts)
            return
        started = self._launch(began, prompts)
        while len(self._under_way) > (self._runner.ahead if started else 0):
            self._land()
        running = self._scheduler.running
        later = self._reader.later(running) if started else None
        if later is not None and self._pace.prompt_seconds < self._spare_seconds(running):
            self._read = (self._clock(), 1)
            self._reader.read_ahead(later)

    def _starving(self) -> list[Utterance]:
        """Who waits for text that has not come."""
        waiting = [u for u in self._scheduler.waiting if not u.ready and not u.awaits_voice]
        placed = (*self._scheduler.running, *self._scheduler.parked)
        return [*waiting, *(u for u in placed if u.dry)]

    def _expire(self) -> None:
        latest = self._clock() - self._config.text_idle_seconds
        for utterance in self._starving():
            if utterance.last_text <= latest:
                self.end(utterance.id, "text_timeout")

    def _next_claim(self) -> Claim | None:
        if not (self._scheduler.waiting or self._scheduler.parked or self._scheduler.running):
            return None
        may_park = self._slots.may_park
        return next_claim(self._scheduler, self._pace.limits, may_park=may_park, now=self._clock())

    def _let_in(self) -> int:
        """Carry out as many claims as those who speak can bear; returns how many prompts were read for them."""
        if self._next_claim() is None:
            return 0
        # Who stands where must be certain before anybody gives way.
        while self._under_way:
            self._land()
        newcomers: list[Utterance] = []
        most, turns = self._bearable_newcomers(), 0
        while turns < _TURNS_PER_STEP and len(newcomers) < most:
            claim = self._next_claim()
            if claim is None or (claim.utterance is None and newcomers):
                break
            turns += claim.gives_way is not None
            newcomer = self._slots.seat(claim)
            if newcomer is not None:
                # Who waited for a slot kept nobody waiting for text.
                newcomer.admitted = newcomer.last_text = self._clock()
                newcomers.append(newcomer)
        if (room := self._slots.most_parked) is not None:
            self._pace.parked(room)
        readings = self._reader.read(newcomers) if newcomers else []
        for newcomer, reading in zip(newcomers, readings, strict=True):
            self._slots.start(newcomer, reading)
        return len(newcomers)

    @property
    def _opening(self) -> bool:
        """Whether nobody can be held up: no step has been made for any who is here."""
        running = self._scheduler.running
        return not self._scheduler.parked and all(u.generation <= 1 and not u.frames for u in running)

    def _bearable_newcomers(self) -> int:
        """As many as hold up those who speak for a step, or for as long as none of their listeners would notice."""
        running = self._scheduler.running
        ready = sum(utterance.ready for utterance in self._scheduler.waiting)
        comers = min(ready, self._scheduler.slots - len(running))
        if comers and self._opening:
            # Who is here and waits for text is held up by nobody, and no first step of theirs will end this.
            return self._pace.opening(sum(u.can_speak for u in running), comers)
        step = self._pace.step_seconds(len(running)) if running else 0.0
        return self._pace.prompts_within(max(step, min(self._spare_seconds(running), TOGETHER_SECONDS)))

    def _spare_seconds(self, running: tuple[Utterance, ...]) -> float:
        """How much later than now the next step may begin so that no listener notices."""
        return tightest_lead(running, self._clock()) - self._pace.step_seconds(len(running))

    def _launch(self, began: float, prompts: int) -> bool:
        """Start a frame for all who can speak; false when nobody can."""
        running = self._scheduler.running
        rows = [(slot, u, u.generation) for slot, u in enumerate(running) if u.can_speak]
        if not rows:
            return False
        size = rows[-1][0] + 1
        held = set(range(size)).difference(slot for slot, _, _ in rows) if len(rows) < size else ()
        flight = self._runner.launch(size, max(u.length for u in running[:size]), held)
        for _, utterance, _ in rows:
            utterance.frames += 1
        self._under_way.append(_Step(flight, size, rows, began, prompts))
        return True

    def _land(self) -> None:
        """Wait for the oldest step under way, and hand out what it made."""
        step = self._under_way.popleft()
        frame = step.flight.land()
        now = self._clock()
        self._measure(step, now)
        self._deliver(step, frame, now)

    def _measure(self, step: _Step, now: float) -> None:
        seconds = now - max(step.began, self._landed_at)
        self._landed_at = now
        self.statistics.steps += 1
        self.statistics.step_seconds_total += seconds
        if step.prompts:
            self._pace.read(step.prompts, step.size, seconds)
        else:
            self._pace.stepped(step.size, seconds, now)

    def _deliver(self, step: _Step, frame: Frame, now: float) -> None:
        """Hand each row's sound out and end those that ended, the last slot first: so fewest rows are moved."""
        ended = frame.ended.tolist()
        for slot, utterance, generation in reversed(step.rows):
            if utterance.ended or utterance.generation != generation:
                continue
            if ended[slot]:
                self._finish_segment(utterance, "complete")
                continue
            self._emit(utterance, frame.pcm[slot], frame.codes[slot], now)
            if utterance.total_frames >= utterance.max_frames:
                self.end(utterance.id, "max_length")
            elif utterance.landed >= utterance.frame_limit:
                self._finish_segment(utterance, "max_length")

    def _emit(self, utterance: Utterance, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64], now: float) -> None:
        """Count a frame and hand it out, unless it is silence nobody should wait for."""
        opening = not utterance.heard and utterance.landed < _SILENT_FRAMES_TRIMMED
        utterance.landed += 1
        utterance.total_frames += 1
        self.statistics.frames += 1
        if utterance.dry:
            utterance.last_text = now
        if utterance.trim_leading_silence and opening and np.abs(pcm).max() <= _SILENCE_PEAK:
            return
        utterance.heard = True
        self.statistics.underruns += utterance.hear(now, FRAME_SECONDS)
        utterance.sink.audio(pcm, codes)

    def _finish_segment(self, utterance: Utterance, reason: Reason) -> None:
        """Go on with the next segment in the same slot, or end."""
        utterance.cut_short |= reason == "max_length"
        following = self._reader.following(utterance)
        if following is not None:
            self._slots.start(utterance, following)
        else:
            self.end(utterance.id, "max_length" if utterance.cut_short else "complete")

    def _end(self, utterance: Utterance, reason: Reason, error: TtsError | None = None) -> None:
        utterance.ended = True
        self._reader.forget(utterance)
        self._slots.free(utterance)
        self.statistics.ended[reason] += 1
        self._publish()
        self._ended(utterance, reason)
        utterance.sink.end(Outcome(reason, utterance.facts(reason, self._clock()), error))

    def _publish(self) -> None:
        scheduler = self._scheduler
        self.statistics.active, self.statistics.parked = len(scheduler.running), len(scheduler.parked)
        self.statistics.waiting = len(scheduler.waiting)
