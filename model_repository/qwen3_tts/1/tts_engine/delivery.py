"""The delivery thread: carries sound from the engine to response streams, and notices when a listener has gone.

It alone touches a stream from the moment the stream is opened to its end, so no stream is polled after its end.
Sending and polling are slow compared to a frame, so frames that pile up go out together and polls are spaced.
Knows no Triton: a stream is anything with the three methods of `ResponseStream`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .request import Outcome, Sink, SpokenSegment

log = logging.getLogger(__name__)

POLL_SECONDS = 0.025
"""How often each stream is asked whether its listener has gone: a poll is a blocking round trip."""

_NO_SOUND = np.zeros(0, dtype=np.int16)


class ResponseStream(Protocol):
    """One listener."""

    def accept(self) -> None:
        """The utterance was taken in; called at most once, perhaps after its first sound."""
        ...

    def send(self, pcm: npt.NDArray[np.int16], segment: SpokenSegment | None) -> None:
        """Send a chunk of whole frames; with it the segment that begins with this chunk, if one does."""
        ...

    def finish(self, pcm: npt.NDArray[np.int16], outcome: Outcome) -> None:
        """Send what is left and how it ended; nothing may follow."""
        ...

    def is_cancelled(self) -> bool:
        """Whether the listener has cancelled or gone."""
        ...


class Observer(Protocol):
    """Told of what happens, for metrics; on the delivery thread."""

    def first_audio(self, seconds: float) -> None:
        """An utterance's first sound was sent, so long after it was opened."""
        ...

    def refresh(self) -> None:
        """Something may have changed."""
        ...


class _Listener:
    """The engine's sink for one stream: puts everything into the delivery thread's queue."""

    def __init__(self, stream: ResponseStream, events: queue.SimpleQueue[_Event | None]) -> None:
        self.stream, self._events = stream, events
        self.opened = time.monotonic()
        self.utterance_id: int | None = None
        self.begun: SpokenSegment | None = None
        self.heard = self.ended = self.broken = self.cancel_sent = False

    def segment(self, segment: SpokenSegment) -> None:
        self._events.put(_Event(self, segment))

    def audio(self, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        self._events.put(_Event(self, pcm))

    def end(self, outcome: Outcome) -> None:
        self._events.put(_Event(self, outcome))


_Content = npt.NDArray[np.int16] | SpokenSegment | Outcome | int


@dataclass(frozen=True)
class _Event:
    """What the engine made for a listener, or the id under which it runs."""

    listener: _Listener
    content: _Content


class Delivery:
    """Owns the delivery thread. `open` may be called by any thread."""

    def __init__(self, cancel: Callable[[int], None], fail: Callable[[str], None], observer: Observer) -> None:
        """cancel: how to tell the engine that a listener has gone. fail: and that nothing can be delivered any more."""
        self._cancel, self._fail, self._observer = cancel, fail, observer
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._live: dict[int, _Listener] = {}
        self._thread = threading.Thread(target=self._main, name="tts-delivery", daemon=True)

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def open(self, stream: ResponseStream, submit: Callable[[Sink], int]) -> None:
        """Hand `stream` over, and submit its utterance with `submit(sink)`.

        When `submit` raises, the error passes through and the stream stays the caller's.
        """
        listener = _Listener(stream, self._events)
        utterance_id = submit(listener)
        self._events.put(_Event(listener, utterance_id))

    def stop(self) -> None:
        """Deliver everything queued, then stop; call it when the engine has shut down."""
        self._events.put(None)
        self._thread.join()

    def _main(self) -> None:
        try:
            self._run()
        except Exception as error:  # the root of the thread: a silent server must not pass for a healthy one
            log.exception("delivery has failed")
            self._fail(f"delivery: {type(error).__name__}: {error}")

    def _run(self) -> None:
        polled = time.monotonic()
        batch: list[_Event | None] = []
        while None not in batch:
            batch = self._next_events(polled + POLL_SECONDS)
            for listener, contents in _by_listener(batch):
                self._guarded(listener, partial(self._serve, listener, contents))
            now = time.monotonic()
            if now >= polled + POLL_SECONDS or not self._live:
                for listener in list(self._live.values()):
                    self._guarded(listener, partial(self._poll, listener))
                self._observer.refresh()
                polled = now
        self._observer.refresh()

    def _guarded(self, listener: _Listener, work: Callable[[], None]) -> None:
        """Do something with one stream; should that fail, its listener counts as gone, and the others do not suffer."""
        try:
            work()
        except Exception:  # whatever one stream's transport raises
            log.exception("a response stream is broken")
            listener.ended = listener.broken = True
            self._live.pop(id(listener), None)
            self._cancel_once(listener)

    def _next_events(self, until: float) -> list[_Event | None]:
        """Everything queued; waits until `until` for the first when there are listeners, else for ever."""
        batch: list[_Event | None] = []
        timeout = max(0.0, until - time.monotonic()) if self._live else None
        try:
            batch.append(self._events.get(timeout=timeout))
            while True:
                batch.append(self._events.get_nowait())
        except queue.Empty:
            return batch

    def _serve(self, listener: _Listener, contents: list[_Content]) -> None:
        chunks: list[npt.NDArray[np.int16]] = []
        for content in contents:
            if isinstance(content, int):
                listener.utterance_id = content
                if not listener.ended:
                    listener.stream.accept()
            elif listener.ended:
                continue
            elif isinstance(content, SpokenSegment):
                self._send(listener, chunks)
                chunks, listener.begun = [], content
            elif isinstance(content, Outcome):
                self._finish(listener, chunks, content)
            else:
                chunks.append(content)
        if listener.broken:  # and perhaps its id had not come when it broke
            self._cancel_once(listener)
        elif not listener.ended:
            self._live[id(listener)] = listener
            self._send(listener, chunks)

    def _send(self, listener: _Listener, chunks: list[npt.NDArray[np.int16]]) -> None:
        if chunks:
            segment, listener.begun = listener.begun, None
            listener.stream.send(np.concatenate(chunks), segment)
            self._hear(listener)

    def _finish(self, listener: _Listener, chunks: list[npt.NDArray[np.int16]], outcome: Outcome) -> None:
        self._live.pop(id(listener), None)
        listener.ended = True
        listener.stream.finish(np.concatenate(chunks) if chunks else _NO_SOUND, outcome)
        if chunks:
            self._hear(listener)

    def _hear(self, listener: _Listener) -> None:
        if not listener.heard:
            listener.heard = True
            self._observer.first_audio(time.monotonic() - listener.opened)

    def _poll(self, listener: _Listener) -> None:
        if listener.utterance_id is not None and not listener.cancel_sent and listener.stream.is_cancelled():
            self._cancel_once(listener)

    def _cancel_once(self, listener: _Listener) -> None:
        if listener.utterance_id is not None and not listener.cancel_sent:
            listener.cancel_sent = True
            self._cancel(listener.utterance_id)


def _by_listener(
    batch: list[_Event | None],
) -> list[tuple[_Listener, list[_Content]]]:
    """Events grouped by listener, each group in order."""
    groups: dict[int, tuple[_Listener, list[_Content]]] = {}
    for event in batch:
        if event is not None:
            groups.setdefault(id(event.listener), (event.listener, []))[1].append(event.content)
    return list(groups.values())
