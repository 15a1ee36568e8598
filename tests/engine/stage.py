"""A delivery thread with nothing real around it."""

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tests.engine.fakes import PATIENCE_S, FakeObserver, FakeStream
from tts_engine import Delivery, Outcome
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
        self.failures: list[str] = []
        self.failed = threading.Event()
        self.cancel_came = threading.Event()
        self.sinks: list[Sink] = []
        self.watch: Callable[[], None] = lambda: None
        self._open = threading.Event()
        self._open.set()
        self._held = threading.Event()
        self.observer = FakeObserver(on_refresh=self._pause)
        self.delivery = Delivery(self._cancel, self._fail, self.observer)
        self.delivery.start()

    def open(
        self, stream: FakeStream, *, early: Callable[[Sink], None] = lambda sink: None, name: str | None = None
    ) -> Sink:
        """Open a stream under the next id, 1, 2, …; `early` is what the engine does before submit returns."""

        def submit(sink: Sink) -> int:
            self.sinks.append(sink)
            early(sink)
            return len(self.sinks)

        self.delivery.open(stream, submit, name)
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
        self.watch()
        if not self._open.is_set():
            self._held.set()
            assert self._open.wait(PATIENCE_S)

    def _cancel(self, utterance_id: int) -> None:
        self.cancelled.append(utterance_id)
        self.cancel_came.set()

    def _fail(self, why: str) -> None:
        self.failures.append(why)
        self.failed.set()
