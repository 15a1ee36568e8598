"""Delivery: one thread, many streams, each finished exactly once and left alone afterwards."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from tests.engine.fakes import PATIENCE_S, FakeObserver, FakeStream
from tts_engine import Delivery, InvalidRequest, Outcome
from tts_engine.request import Sink

CODES = np.zeros(16, dtype=np.int64)
DONE = Outcome("complete", {"reason": "complete"})


def sound(number: int) -> npt.NDArray[np.int16]:
    """A frame that is known by its samples."""
    return np.full(1920, number, dtype=np.int16)


class Stage:
    """A delivery thread that can be held up, an engine that only notes cancels, and the sinks it was given."""

    def __init__(self) -> None:
        self.cancelled: list[int] = []
        self.cancel_came = threading.Event()
        self.sinks: list[Sink] = []
        self._open = threading.Event()
        self._open.set()
        self._held = threading.Event()
        self.observer = FakeObserver(on_refresh=self._pause)
        self.delivery = Delivery(self._cancel, self.observer)
        self.delivery.start()

    def open(self, stream: FakeStream, *, early: Callable[[Sink], None] = lambda sink: None) -> Sink:
        """Open a stream under the next id, 1, 2, …; `early` is what the engine does before submit returns."""

        def submit(sink: Sink) -> int:
            self.sinks.append(sink)
            early(sink)
            return len(self.sinks)

        self.delivery.open(stream, submit)
        return self.sinks[-1]

    def hold(self) -> None:
        """Return when the thread stands still: what is queued from now on goes in one batch."""
        self._held.clear()
        self._open.clear()
        self.open(FakeStream())
        assert self._held.wait(PATIENCE_S)

    def release(self) -> None:
        self._open.set()

    def several_polls(self) -> None:
        """Return when every listener has been asked a few times whether it is still there."""
        stream = FakeStream()
        self.open(stream)
        for _ in range(3):
            stream.polled.clear()
            assert stream.polled.wait(PATIENCE_S)

    def _pause(self) -> None:
        if not self._open.is_set():
            self._held.set()
            assert self._open.wait(PATIENCE_S)

    def _cancel(self, utterance_id: int) -> None:
        self.cancelled.append(utterance_id)
        self.cancel_came.set()


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
    assert stream.log == []


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


def test_the_first_sound_of_each_utterance_is_timed_once_and_changes_are_told(stage: Stage) -> None:
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
    assert stage.observer.refreshed >= 3
