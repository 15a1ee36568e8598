"""What happens between two looks into the inbox: utterances enter slots, step, change segments, and leave.

Owns scheduler and runner, on the engine thread. Knows no messages and no other thread.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from .config import SAMPLE_RATE, SAMPLES_PER_FRAME, EngineConfig
from .counts import Statistics
from .errors import TtsError
from .prompt import Prompt, PromptBuilder
from .request import Outcome, Reason, SpokenSegment, Utterance, add_text
from .runner import Frame, Prefilled, Runner
from .scheduler import Scheduler

log = logging.getLogger(__name__)

# Reading a prompt takes time in which those who speak already must wait.
_NEWCOMERS_PER_STEP = 2
_SILENT_FRAMES_TRIMMED = 4
_FRAME_SECONDS = SAMPLES_PER_FRAME / SAMPLE_RATE
# A frame that never gets louder (-80 dBFS) is digital silence, however it was made.
_SILENCE_PEAK = 3


@dataclass(frozen=True)
class _Ahead:
    """The next segment of an utterance, read before the one that runs has ended."""

    prefilled: Prefilled
    tokens: int
    span: tuple[int, int]


class Generation:
    """All utterances the engine has taken in and not yet ended."""

    def __init__(
        self, config: EngineConfig, prompts: PromptBuilder, runner: Runner, ended: Callable[[Utterance], None]
    ) -> None:
        """ended: told of each utterance before its sink is."""
        self._config, self._prompts, self._runner, self._ended = config, prompts, runner, ended
        self.statistics = Statistics()
        self._scheduler = Scheduler(config.slots)
        self._ahead: dict[int, _Ahead] = {}

    @property
    def has_work(self) -> bool:
        """Whether `advance` would do anything now."""
        return self._scheduler.has_work

    def enqueue(self, utterance: Utterance) -> None:
        """Take in an utterance."""
        self._scheduler.enqueue(utterance)

    def find(self, utterance_id: int) -> Utterance | None:
        """An utterance that has not ended."""
        return self._scheduler.find(utterance_id)

    def extend(self, utterance_id: int, ids: Sequence[int], *, complete: bool) -> None:
        """More text has come for a live utterance; for one that has ended it is too late, and nothing happens."""
        utterance = self._scheduler.find(utterance_id)
        if utterance is None or utterance.script.complete:
            return
        add_text(utterance, ids, complete=complete)
        slot = self._scheduler.slot_of(utterance_id)
        if slot is not None:
            laid = (*ids, *self._prompts.end_of_text()) if complete else tuple(ids)
            self._runner.extend(slot, utterance.trailing, laid, complete=complete)
            utterance.trailing += len(laid)
        elif complete and not utterance.script.live:
            # Nothing was ever said.
            self._scheduler.withdraw(utterance_id)
            self._end(utterance, "complete")

    def end(self, utterance_id: int, reason: Reason, error: TtsError | None = None) -> None:
        """End an utterance, wherever it is; unknown ids are ignored."""
        waiting = self._scheduler.withdraw(utterance_id)
        if waiting is not None:
            self._end(waiting, reason, error)
            return
        slot = self._scheduler.slot_of(utterance_id)
        if slot is not None:
            self._retire(slot, reason, error)

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
        """Let in who can come in, make one frame for all who can speak, and read ahead for one of them."""
        self._expire()
        newcomers = _NEWCOMERS_PER_STEP if self._scheduler.running else self._config.slots
        for utterance, slot in itertools.islice(self._scheduler.admit(), newcomers):
            utterance.admitted = time.monotonic()
            self._enter(slot, utterance, self._read_next(utterance))
        self._publish()
        running = self._scheduler.running
        speaking = [slot for slot, utterance in enumerate(running) if not utterance.dry]
        if speaking:
            rows = speaking[-1] + 1
            longest = max(utterance.length for utterance in running[:rows])
            begun = time.monotonic()
            flight = self._runner.launch(rows, longest, set(range(rows)).difference(speaking))
            frame = flight.land()
            self.statistics.steps += 1
            self.statistics.step_seconds_total += time.monotonic() - begun
            self._deliver(running, speaking, frame)
            self._read_ahead()

    def _starving(self) -> list[Utterance]:
        """Who waits for text that has not come."""
        waiting = [u for u in self._scheduler.waiting if not u.ready and not u.awaits_voice]
        return [*waiting, *(u for u in self._scheduler.running if u.dry)]

    def _expire(self) -> None:
        latest = time.monotonic() - self._config.text_idle_seconds
        for utterance in self._starving():
            if utterance.last_text <= latest:
                self.end(utterance.id, "text_timeout")

    def _read_next(self, utterance: Utterance) -> _Ahead:
        """Read the prompt of an utterance's next segment."""
        script, span = utterance.script, (0, 0)
        if script.live is not None:
            tokens: Sequence[int] = script.live
        else:
            segment = script.segments.popleft()
            tokens, span = segment.ids, (segment.start, segment.end)
        prompt: Prompt = self._prompts.fill(utterance.template, tokens, complete=script.complete)
        return _Ahead(self._runner.prepare(prompt, utterance.voice), len(tokens), span)

    def _read_ahead(self) -> None:
        """Read one segment that will be wanted, so that its speaker needs no pause; one a step, to hold up nobody."""
        for utterance in self._scheduler.running:
            if utterance.script.segments and utterance.id not in self._ahead:
                self._ahead[utterance.id] = self._read_next(utterance)
                return

    def _enter(self, slot: int, utterance: Utterance, segment: _Ahead) -> None:
        """Start a segment in a slot."""
        self._runner.enter(slot, segment.prefilled, utterance.sampling)
        utterance.begin(segment.prefilled.length, segment.prefilled.text, segment.tokens)
        if utterance.script.live is None:
            start, end = segment.span
            offset = utterance.sent_frames * SAMPLES_PER_FRAME
            utterance.spoken.append(SpokenSegment(len(utterance.spoken), start, end, offset))
            utterance.sink.segment(utterance.spoken[-1])

    def _deliver(self, running: tuple[Utterance, ...], speaking: list[int], frame: Frame) -> None:
        """Hand each row's sound out and retire those that ended, the last slot first: moves stay simple."""
        for slot in reversed(speaking):
            utterance = running[slot]
            if frame.ended[slot]:
                self._finish_segment(slot, utterance, "complete")
                continue
            self._emit(utterance, frame.pcm[slot], frame.codes[slot])
            if utterance.total_frames >= utterance.max_frames:
                self._retire(slot, "max_length")
            elif utterance.frames >= min(utterance.frame_limit, self._config.max_frames):
                self._finish_segment(slot, utterance, "max_length")

    def _emit(self, utterance: Utterance, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        """Count a frame and hand it out, unless it is silence nobody should wait for."""
        opening = not utterance.heard and utterance.frames < _SILENT_FRAMES_TRIMMED
        utterance.frames += 1
        utterance.total_frames += 1
        self.statistics.frames += 1
        now = time.monotonic()
        if utterance.dry:
            utterance.last_text = now
        if utterance.trim_leading_silence and opening and np.abs(pcm).max() <= _SILENCE_PEAK:
            return
        utterance.heard = True
        utterance.sent_frames += 1
        if utterance.first_audio is None:
            utterance.first_audio = utterance.played_out = now
        # Live text that is late is no fault of ours.
        self.statistics.underruns += now > utterance.played_out and utterance.script.live is None
        utterance.played_out = max(now, utterance.played_out) + _FRAME_SECONDS
        utterance.sink.audio(pcm, codes)

    def _finish_segment(self, slot: int, utterance: Utterance, reason: Reason) -> None:
        """Go on with the next segment in the same slot, or end."""
        utterance.cut_short |= reason == "max_length"
        ahead = self._ahead.pop(utterance.id, None)
        if ahead is None and utterance.script.segments:
            ahead = self._read_next(utterance)
        if ahead is not None:
            self._enter(slot, utterance, ahead)
        else:
            self._retire(slot, "max_length" if utterance.cut_short else "complete")

    def _retire(self, slot: int, reason: Reason, error: TtsError | None = None) -> None:
        utterance = self._scheduler.running[slot]
        move = self._scheduler.retire(slot)
        # Before the copy: should that fail, this utterance stands in no list any more and nobody else would end it.
        self._end(utterance, reason, error)
        if move is not None:
            moved = self._scheduler.running[move.target]
            self._runner.move(move.source, move.target, moved.length, moved.trailing)

    def _end(self, utterance: Utterance, reason: Reason, error: TtsError | None = None) -> None:
        self._ahead.pop(utterance.id, None)
        self.statistics.ended[reason] += 1
        self._publish()
        self._ended(utterance)
        since = utterance.submitted
        info: dict[str, object] = {
            "reason": reason,
            "frames": utterance.total_frames,
            "samples": utterance.sent_frames * SAMPLES_PER_FRAME,
            **utterance.description,
            "segments": [asdict(segment) for segment in utterance.spoken],
            "timings": {
                "queue_s": _seconds(since, utterance.admitted),
                "first_audio_s": _seconds(since, utterance.first_audio),
                "total_s": _seconds(since, time.monotonic()),
            },
        }
        utterance.sink.end(Outcome(reason, info, error))

    def _publish(self) -> None:
        self.statistics.active = len(self._scheduler.running)
        self.statistics.waiting = len(self._scheduler.waiting)


def _seconds(since: float, until: float | None) -> float | None:
    return None if until is None else round(until - since, 6)
