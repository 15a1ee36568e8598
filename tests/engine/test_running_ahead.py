"""Launching a step before the last one has landed changes nothing that is heard: on random schedules of arrivals,
cancels, written text, long text and ends, with more utterances than slots.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Demo
from tests.engine.fakes import Listener
from tests.engine.rehearsal import AheadRunner, Clock, Rehearsal, TimedRunner, real_runner
from tts_engine import EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.request import Utterance
from tts_engine.runner import Flight, Frame, Runner

CONFIG = EngineConfig(slots=3, max_waiting=64, segment_tokens=20, max_frames=40, parked_mb=1)
SENTENCE = "One more for you. "


@dataclass(frozen=True)
class Part:
    """One utterance of a schedule: when it comes, in steps, and what becomes of it.

    frames: how long the script lets each of its generations be. sentences: of its text, each a segment of its own.
    written: when pieces of live text come, in steps after its beginning; None for text that comes whole.
    cancelled: after so many steps, if it is.
    """

    arrives: int
    frames: int
    sentences: int
    most: int | None
    written: tuple[int, ...] | None
    cancelled: int | None

    @property
    def text(self) -> str:
        return SENTENCE * self.sentences

    def speak(self, number: int) -> Speak:
        whole = Speak(text=self.text, language="english", seed=self.frames, max_frames=self.most)
        if self.written is None:
            return whole
        return replace(whole, text="", utterance=str(number), text_complete=False)


parts = st.builds(
    Part,
    arrives=st.integers(0, 25),
    frames=st.integers(0, 30),
    sentences=st.integers(1, 4),
    most=st.none() | st.integers(1, 60),
    written=st.none() | st.lists(st.integers(0, 30), min_size=1, max_size=4).map(lambda steps: tuple(sorted(steps))),
    cancelled=st.none() | st.integers(0, 40),
)


@dataclass
class Play:
    """A schedule played on one runner."""

    rehearsal: Rehearsal
    schedule: list[Part]
    listeners: list[Listener] = field(default_factory=list)
    utterances: dict[int, Utterance] = field(default_factory=dict)

    def run(self) -> Play:
        self.listeners = [Listener() for _ in self.schedule]
        generation, step = self.rehearsal.generation, 0
        while self._pending(step) or generation.has_work:
            for number, part in enumerate(self.schedule):
                self._act(number, part, step)
            if generation.has_work:
                generation.advance()
            step += 1
        return self

    def _pending(self, step: int) -> bool:
        return any(step <= part.arrives + max((*(part.written or ()), part.cancelled or 0)) for part in self.schedule)

    def _act(self, number: int, part: Part, step: int) -> None:
        if step == part.arrives:
            self.utterances[number] = self.rehearsal.submit(part.speak(number), self.listeners[number])
        if number not in self.utterances:
            return
        utterance, since = self.utterances[number], step - part.arrives
        ids = list(range(1, 1 + 6 * part.sentences))
        pieces = part.written or ()
        for place, when in enumerate(pieces):
            if when == since:
                start, end = (len(ids) * cut // len(pieces) for cut in (place, place + 1))
                last = place == len(pieces) - 1
                self.rehearsal.generation.extend(utterance.id, ids[start:end], complete=last)
        if part.cancelled == since:
            self.rehearsal.generation.end(utterance.id, "cancelled")

    @property
    def reasons(self) -> list[str]:
        return [listener.outcome.reason for listener in self.listeners]


def same(one: Play, other: Play) -> None:
    """Whoever was not cancelled heard the same; who was, on one of them, a beginning of it."""
    for first, second in zip(one.listeners, other.listeners, strict=True):
        heard = min(len(first.frames), len(second.frames))
        assert np.array_equal(first.codes[:heard], second.codes[:heard])
        if "cancelled" in (first.outcome.reason, second.outcome.reason):
            continue
        assert first.outcome.reason == second.outcome.reason
        assert len(first.frames) == len(second.frames)
        assert first.segments == second.segments
        assert all(first.outcome.info[key] == second.outcome.info[key] for key in ("frames", "samples", "segments"))


def scripted(checkpoint: Checkpoint, schedule: list[Part], config: EngineConfig, ahead: int, silent: int) -> Play:
    """A step takes a millisecond, so that listeners soon have so much in hand that others get their turn."""
    clock = Clock()
    runner = TimedRunner(clock, lambda rows: 0.001, ahead=ahead, silent=silent)
    return Play(Rehearsal(checkpoint, config, runner, clock), schedule).run()


@given(schedule=st.lists(parts, min_size=1, max_size=9), slots=st.integers(1, 4), silent=st.sampled_from([0, 2, 7]))
@settings(max_examples=150)
def test_a_runner_that_is_ahead_says_the_same(
    checkpoint: Checkpoint, schedule: list[Part], slots: int, silent: int
) -> None:
    config = replace(CONFIG, slots=slots)
    at_once = scripted(checkpoint, schedule, config, 0, silent)
    ahead = scripted(checkpoint, schedule, config, 1, silent)
    same(at_once, ahead)
    for play in (at_once, ahead):
        assert [reason for _, reason in play.rehearsal.ended].count("cancelled") == play.reasons.count("cancelled")
        statistics = play.rehearsal.statistics
        assert (statistics.active, statistics.parked, statistics.waiting) == (0, 0, 0)
        assert statistics.frames == sum(listener.outcome.info["frames"] for listener in play.listeners)
        assert play.rehearsal.admission.unfinished == 0


def test_only_a_runner_that_is_ahead_ever_makes_a_frame_for_nobody(checkpoint: Checkpoint) -> None:
    """At its end by itself: one step. At a limit, which is known before: none."""
    own_end = Part(arrives=0, frames=5, sentences=1, most=None, written=None, cancelled=None)
    for part, extra in ((own_end, 1), (replace(own_end, most=4), 0)):
        runs = [scripted(checkpoint, [part], CONFIG, ahead, 0) for ahead in (0, 1)]
        made = [play.rehearsal.runner.made for play in runs]  # type: ignore[attr-defined]
        assert made[1] == made[0] + extra


class Watched(AheadRunner):
    """Notes when a step was launched and when it was landed."""

    log: list[str]

    def launch(self, *step: object) -> Flight:
        self.log.append("launch")
        flight = super().launch(*step)  # type: ignore[arg-type]
        runner = self

        class Landing(Flight):
            def land(self) -> Frame:
                runner.log.append("land")
                return super().land()

        return Landing(flight.codes, flight.pcm, flight.ended)


@pytest.fixture(scope="module")
def networks(demo: Demo) -> Networks:
    return load_networks(Checkpoint.read(demo()), torch.device("cpu"), torch.float64)


def test_the_next_step_is_under_way_when_one_is_handed_out_and_never_more(
    checkpoint: Checkpoint, networks: Networks
) -> None:
    runner = real_runner(Watched, checkpoint, networks, CONFIG)
    assert isinstance(runner, Watched)
    runner.log = []
    rehearsal, listener = Rehearsal(checkpoint, CONFIG, runner), Listener()
    rehearsal.submit(Speak(text="Hello", seed=1, max_frames=5), listener)
    rehearsal.run()
    assert listener.outcome.reason == "max_length"
    assert runner.log == ["launch", *["launch", "land"] * 4, "land"]


@given(schedule=st.lists(parts, min_size=2, max_size=5), slots=st.integers(1, 3))
@settings(max_examples=8)
def test_the_real_networks_say_the_same_when_they_are_ahead(
    checkpoint: Checkpoint, networks: Networks, schedule: list[Part], slots: int
) -> None:
    config = replace(CONFIG, slots=slots)
    schedule = [replace(part, frames=number, most=min(part.most or 12, 12)) for number, part in enumerate(schedule)]
    plays = []
    for kind in (Runner, AheadRunner):
        runner = real_runner(kind, checkpoint, networks, config)
        plays.append(Play(Rehearsal(checkpoint, config, runner), schedule).run())
    same(*plays)
