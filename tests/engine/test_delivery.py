"""Delivery: one thread, many streams, each finished exactly once and left alone afterwards."""

import threading

import numpy as np
import pytest

from tests.engine.fakes import PATIENCE_S, FakeObserver, FakeStream
from tests.engine.stage import CODES, DONE, Stage, sound
from tts_engine import Delivery, InvalidRequest, Outcome, SpokenSegment
from tts_engine.request import Sink


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
    assert stream.accepted_after[0] == 0, "sound says as well that it was taken in, and so is not the first to say so"
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


def test_a_segment_is_told_once(stage: Stage) -> None:
    sent = threading.Semaphore(0)
    stream = FakeStream(on_send=sent.release)
    segment = SpokenSegment(0, 0, 5, 0)
    sink = stage.open(stream)
    sink.segment(segment)
    for number in (1, 2):
        sink.audio(sound(number), CODES)
        assert sent.acquire(timeout=PATIENCE_S)
    sink.end(DONE)
    assert stream.finished.wait(PATIENCE_S)
    assert stream.segments == [segment, None]


def test_a_frame_that_waits_for_its_chunk_goes_before_it_is_missed_although_no_other_comes(stage: Stage) -> None:
    sent = threading.Semaphore(0)
    stream = FakeStream(on_send=sent.release)
    stage.hold()
    sink = stage.open(stream)
    for number in range(12):
        sink.audio(sound(number), CODES)
    stage.release()
    assert sent.acquire(timeout=PATIENCE_S)
    sink.audio(sound(12), CODES)  # a listener with a second in hand can wait for more than one
    assert sent.acquire(timeout=PATIENCE_S)
    assert [len(chunk) // 1920 for chunk in stream.chunks] == [12, 1]


def test_changes_are_told_although_nothing_follows_them(stage: Stage) -> None:
    for _ in range(3):
        stream, told = FakeStream(), threading.Event()

        def watch(stream: FakeStream = stream, told: threading.Event = told) -> None:
            if stream.finished.is_set():
                told.set()

        stage.watch = watch
        stage.open(stream).end(DONE)
        assert told.wait(60.0), "the last change was not told"


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
