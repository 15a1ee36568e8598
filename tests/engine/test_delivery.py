"""Delivery: one thread, many streams, each finished exactly once and left alone afterwards."""

import threading
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from tests.engine.fakes import PATIENCE_S, BrokenStream, FakeObserver, FakeStream
from tests.engine.stage import CODES, DONE, Stage, sound
from tts_engine import Delivery, InvalidRequest, Outcome, SpokenSegment
from tts_engine.delivery import POLLS_AT_ONCE
from tts_engine.request import Sink


@pytest.fixture
def stage() -> Iterator[Stage]:
    one = Stage()
    yield one
    one.release()
    one.delivery.stop()


def test_frames_arrive_in_order_and_the_end_comes_once_and_last(stage: Stage) -> None:
    stream = FakeStream()
    sink = stage.open(stream)
    for number in range(50):
        sink.audio(sound(number), CODES)
    sink.end(DONE)
    assert stream.finished.wait(PATIENCE_S)
    assert stream.pcm.reshape(50, 1920)[:, 0].tolist() == list(range(50))
    assert stream.outcome is DONE
    stage.several_polls()
    assert stream.log[-1] == "finish"
    assert stream.log.count("finish") == 1


def test_frames_that_pile_up_go_out_together(stage: Stage) -> None:
    stage.hold()
    stream = FakeStream()
    sink = stage.open(stream)
    for number in (1, 2, 3):
        sink.audio(sound(number), CODES)
    stage.release()
    stage.open(FakeStream()).end(DONE)
    stage.delivery.stop()
    assert [call for call in stream.log if call != "poll"] == ["send"]
    assert stream.chunks[0].tolist() == np.concatenate([sound(1), sound(2), sound(3)]).tolist()


def test_the_last_frames_go_out_with_the_end(stage: Stage) -> None:
    stage.hold()
    stream = FakeStream()
    sink = stage.open(stream)
    sink.audio(sound(1), CODES)
    sink.audio(sound(2), CODES)
    sink.end(DONE)
    stage.release()
    assert stream.finished.wait(PATIENCE_S)
    assert stream.log == ["finish"]
    assert stream.pcm.tolist() == np.concatenate([sound(1), sound(2)]).tolist()


def test_an_end_without_sound_carries_none(stage: Stage) -> None:
    stream = FakeStream()
    stage.open(stream).end(DONE)
    assert stream.finished.wait(PATIENCE_S)
    assert stream.pcm.dtype == np.int16
    assert len(stream.pcm) == 0
    assert stage.observer.first_audio_seconds == []


def test_sound_and_end_may_come_before_the_id(stage: Stage) -> None:
    stream = FakeStream()

    def whole_utterance(sink: Sink) -> None:
        sink.audio(sound(7), CODES)
        sink.end(DONE)
        assert stream.finished.wait(PATIENCE_S)

    stage.open(stream, early=whole_utterance)
    stream.gone.set()
    stage.several_polls()
    assert stream.log[-1] == "finish"
    assert stage.cancelled == []


def test_sound_before_the_id_is_not_kept_back(stage: Stage) -> None:
    stream, heard = FakeStream(), []

    def one_frame(sink: Sink) -> None:
        sink.audio(sound(7), CODES)
        other = FakeStream()
        stage.delivery.open(other, lambda sink: 99)
        assert other.polled.wait(PATIENCE_S)  # the thread has gone round at least once
        heard.append(len(stream.chunks))

    stage.open(stream, early=one_frame)
    assert heard == [1]
    assert "poll" not in stream.log[:1]


def test_a_listener_is_told_once_and_before_all_sound_that_he_was_taken_in(stage: Stage) -> None:
    def a_frame(sink: Sink) -> None:
        sink.audio(sound(1), CODES)

    def nothing_but_an_end(sink: Sink) -> None:
        sink.end(Outcome("cancelled", {}))

    waiting, early, ended = FakeStream(), FakeStream(), FakeStream()
    stage.open(waiting)
    stage.several_polls()
    assert waiting.accepted_after == [0], "though nothing of it has been made"
    stage.open(early, early=a_frame).end(DONE)
    stage.open(ended, early=nothing_but_an_end)
    for stream in (early, ended):
        assert stream.finished.wait(PATIENCE_S)
    stage.several_polls()
    assert [stream.accepted_after for stream in (waiting, early, ended)] == [[0]] * 3


def test_a_listener_that_has_gone_is_passed_on_once(stage: Stage) -> None:
    gone, there = FakeStream(), FakeStream()
    stage.open(there)
    sink = stage.open(gone)
    gone.gone.set()
    assert stage.cancel_came.wait(PATIENCE_S)
    sink.audio(sound(1), CODES)  # what the engine made before it heard of it
    stage.several_polls()
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


def test_those_who_have_heard_nothing_yet_are_served_first(stage: Stage) -> None:
    order: list[str] = []
    first = FakeStream(on_send=lambda: order.append("first"))
    sink = stage.open(first)
    sink.audio(sound(1), CODES)
    stage.hold()
    order.clear()
    sink.audio(sound(2), CODES)
    stage.open(FakeStream(on_send=lambda: order.append("second"))).audio(sound(3), CODES)
    stage.release()
    stage.open(FakeStream()).end(DONE)
    stage.delivery.stop()
    assert order == ["second", "first"]


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


def test_a_refused_submit_leaves_the_stream_to_the_caller(stage: Stage) -> None:
    stream, later = FakeStream(), FakeStream()

    def refuse(sink: Sink) -> int:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        stage.delivery.open(stream, refuse)
    stage.open(later)
    assert later.polled.wait(PATIENCE_S)
    assert stream.log == stream.accepted_after == []


def test_stop_delivers_everything_first(stage: Stage) -> None:
    stage.hold()
    streams = [FakeStream() for _ in range(20)]
    for number, stream in enumerate(streams):
        sink = stage.open(stream)
        sink.audio(sound(number), CODES)
        sink.end(Outcome("cancelled", {}))
    stage.release()
    stage.delivery.stop()
    assert [stream.log for stream in streams] == [["finish"]] * 20
    assert [stream.pcm[0] for stream in streams] == list(range(20))


def test_the_first_sound_of_each_utterance_is_timed_once(stage: Stage) -> None:
    for _ in range(3):
        stream = FakeStream()
        sink = stage.open(stream)
        sink.audio(sound(1), CODES)
        sink.audio(sound(2), CODES)
        sink.end(DONE)
        assert stream.finished.wait(PATIENCE_S)
    stage.delivery.stop()
    assert len(stage.observer.first_audio_seconds) == 3
    assert all(0 <= seconds < PATIENCE_S for seconds in stage.observer.first_audio_seconds)


def test_a_segment_is_told_with_its_first_sound_and_not_with_that_of_the_one_before(stage: Stage) -> None:
    stream = FakeStream()
    first, second = SpokenSegment(0, 0, 5, 0), SpokenSegment(1, 6, 9, 2 * 1920)

    def two_segments(sink: Sink) -> None:
        sink.segment(first)
        for number in (1, 2):
            sink.audio(sound(number), CODES)
        sink.segment(second)
        sink.audio(sound(3), CODES)
        sink.audio(sound(4), CODES)

    sink = stage.open(stream, early=two_segments)
    sink.end(DONE)
    assert stream.finished.wait(PATIENCE_S)
    told = dict(zip(stream.segments, np.cumsum([0, *map(len, stream.chunks)]), strict=False))
    assert told[first] == 0
    assert told.get(second, 2 * 1920) == 2 * 1920
    assert np.array_equal(stream.pcm, np.concatenate([sound(number) for number in (1, 2, 3, 4)]))


def test_changes_are_told_although_nothing_follows_them(stage: Stage) -> None:
    for _ in range(3):
        stream, told = FakeStream(), threading.Event()

        def watch(stream: FakeStream = stream, told: threading.Event = told) -> None:
            if stream.finished.is_set():
                told.set()

        stage.watch = watch
        stage.open(stream).end(DONE)
        assert told.wait(60.0), "the last change was not told"


@pytest.mark.parametrize("broken_call", ["send", "finish", "poll"])
def test_a_broken_stream_counts_as_gone_and_the_others_do_not_suffer(stage: Stage, broken_call: str) -> None:
    broken, whole = BrokenStream(broken_call), FakeStream()
    sink, other = stage.open(broken), stage.open(whole)
    sink.audio(sound(1), CODES)
    if broken_call == "finish":
        sink.end(DONE)
    assert stage.cancel_came.wait(PATIENCE_S)
    other.audio(sound(2), CODES)
    sink.audio(sound(1), CODES)  # what the engine made before it heard of it
    sink.end(Outcome("cancelled", {}))
    other.end(DONE)
    assert whole.finished.wait(PATIENCE_S)
    touched = len(broken.log)
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


def test_the_engine_is_told_when_delivery_itself_has_failed() -> None:
    def break_down() -> None:
        raise RuntimeError("the metrics are gone")

    failures: list[str] = []
    failed = threading.Event()

    def fail(why: str) -> None:
        failures.append(why)
        failed.set()

    delivery = Delivery(lambda utterance_id: None, fail, FakeObserver(on_refresh=break_down))
    delivery.start()
    delivery.open(FakeStream(), lambda sink: 1)
    assert failed.wait(PATIENCE_S)
    assert failures == ["delivery: RuntimeError: the metrics are gone"]
    delivery.stop()
