"""Delivery and those who leave: asked in turn whether they are there, named, broken, and passed on once."""

from itertools import pairwise

import pytest

from tests.engine.fakes import PATIENCE_S, BrokenStream, FakeStream
from tests.engine.stage import CODES, DONE, Stage, sound
from tts_engine import InvalidRequest, Outcome
from tts_engine.delivery import POLLS_AT_ONCE
from tts_engine.request import Sink


def test_a_listener_that_has_gone_is_passed_on_once(stage: Stage) -> None:
    gone, there = FakeStream(), FakeStream()
    stage.open(there)
    sink = stage.open(gone)
    gone.gone.set()
    assert stage.cancel_came.wait(PATIENCE_S)
    asked = gone.log.count("poll")
    sink.audio(sound(1), CODES)  # what the engine made before it heard of it
    stage.several_polls()
    assert gone.log.count("poll") == asked, "whoever was passed on is not asked again"
    sink.end(Outcome("cancelled", {}))
    assert gone.finished.wait(PATIENCE_S)
    assert stage.cancelled == [2]
    assert gone.outcome == Outcome("cancelled", {})
    assert gone.log.count("finish") == 1
    assert not [call for call in gone.log if "after finish" in call]


def test_a_listener_who_leaves_by_name_is_passed_on_at_once_and_once(stage: Stage) -> None:
    stage.hold()  # whatever the thread is busy with
    stream = FakeStream()
    sink = stage.open(stream, name="one")
    stage.delivery.leave("one")
    stage.release()
    assert stage.cancel_came.wait(PATIENCE_S)
    stage.delivery.leave("one")
    stream.gone.set()
    stage.several_polls()
    sink.end(Outcome("cancelled", {}))
    assert stream.finished.wait(PATIENCE_S)
    assert stage.cancelled == [2]


def test_a_listener_may_leave_before_its_id_has_come(stage: Stage) -> None:
    stage.open(FakeStream(), name="one", early=lambda sink: stage.delivery.leave("one"))
    assert stage.cancel_came.wait(PATIENCE_S)
    assert stage.cancelled == [1]


def test_a_name_is_nobodys_once_its_utterance_has_ended_or_was_refused(stage: Stage) -> None:
    def refuse(sink: Sink) -> int:
        raise InvalidRequest("no")

    stream = FakeStream()
    stage.open(stream, name="one").end(DONE)
    assert stream.finished.wait(PATIENCE_S)
    with pytest.raises(InvalidRequest):
        stage.delivery.open(FakeStream(), refuse, name="two")
    for name in ("one", "two", "nobody"):
        stage.delivery.leave(name)
    stage.several_polls()
    assert stage.cancelled == []


def test_a_name_that_has_gone_to_another_outlives_the_one_who_had_it(stage: Stage) -> None:
    first = FakeStream()
    sink = stage.open(first, name="one")
    stage.open(FakeStream(), name="one")
    sink.end(DONE)
    assert first.finished.wait(PATIENCE_S)
    stage.several_polls()
    stage.delivery.leave("one")
    assert stage.cancel_came.wait(PATIENCE_S)
    assert stage.cancelled == [2]


def test_only_so_many_streams_are_polled_at_once_and_all_in_turn(stage: Stage) -> None:
    stage.hold()
    streams = [FakeStream() for _ in range(3 * POLLS_AT_ONCE)]
    for stream in streams:
        stage.open(stream)
    counts: list[int] = []
    stage.watch = lambda: counts.append(sum(stream.log.count("poll") for stream in streams))
    stage.release()
    for stream in streams:
        assert stream.polled.wait(PATIENCE_S)
    assert max(after - before for before, after in pairwise([0, *counts])) <= POLLS_AT_ONCE
    assert max(stream.log.count("poll") for stream in streams) <= 2, "nobody is asked again before all others"


def test_listeners_are_polled_although_sound_never_ceases(stage: Stage) -> None:
    gone = FakeStream()
    gone.gone.set()
    sinks: list[Sink] = []

    def more() -> None:
        if not stage.cancel_came.is_set():
            sinks[0].audio(sound(0)[:1], CODES)

    # Each sending brings the next, so the thread never finds its queue empty.
    stage.open(FakeStream(on_send=more), early=sinks.append)
    more()
    stage.open(gone)
    assert stage.cancel_came.wait(PATIENCE_S)
    assert stage.cancelled == [2]


@pytest.mark.parametrize("broken_call", ["send", "finish", "poll"])
def test_a_broken_stream_counts_as_gone_and_the_others_do_not_suffer(stage: Stage, broken_call: str) -> None:
    broken, whole = BrokenStream(broken_call), FakeStream()
    sink, other = stage.open(broken), stage.open(whole)
    sink.audio(sound(1), CODES)
    if broken_call == "finish":
        sink.end(DONE)
    assert stage.cancel_came.wait(PATIENCE_S)
    touched = len(broken.log)
    other.audio(sound(2), CODES)
    sink.audio(sound(1), CODES)  # what the engine made before it heard of it
    sink.end(Outcome("cancelled", {}))
    other.end(DONE)
    assert whole.finished.wait(PATIENCE_S)
    stage.several_polls()
    assert stage.cancelled == [1]
    assert len(broken.log) == touched, "a broken stream is left alone"
    assert whole.outcome is DONE
    assert stage.failures == []


def test_a_stream_that_breaks_before_its_id_is_known_is_cancelled_when_it_is(stage: Stage) -> None:
    stream = BrokenStream("send")

    def one_frame(sink: Sink) -> None:
        sink.audio(sound(1), CODES)
        assert stream.broke.wait(PATIENCE_S)

    stage.open(stream, early=one_frame)
    assert stage.cancel_came.wait(PATIENCE_S)
    assert stage.cancelled == [1]


def test_a_broken_stream_is_no_first_sound(stage: Stage) -> None:
    stream = BrokenStream("send")
    stage.open(stream).audio(sound(1), CODES)
    assert stage.cancel_came.wait(PATIENCE_S)
    assert stage.observer.first_audio_seconds == []
