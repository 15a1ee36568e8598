"""The delivery thread: carries sound from the engine to response streams, and notices when a listener has gone.

It alone touches a stream from the moment the stream is opened to its end, so no stream is polled after its end.
Sending is slow, so frames go out in chunks (chunking.py). Polling is slower still, so only so many streams are asked in
turn; a listener who says by name that he leaves is heard at once. Knows no Triton: a stream is anything with the
methods of `ResponseStream`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .chunking import Chunks
from .request import Outcome, Sink, SpokenSegment

log = logging.getLogger(__name__)

POLL_SECONDS = 0.025
"""How often streams are asked whether their listeners have gone."""
POLLS_AT_ONCE = 16
"""How many are asked then, in turn: a poll is a blocking round trip, and all others wait for it."""


class ResponseStream(Protocol):
    """One listener."""

    def accept(self) -> None:
        """The utterance was taken in; called at most once, before its first sound."""
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

    def __init__(self, stream: ResponseStream, name: str | None, events: queue.SimpleQueue[_Event | None]) -> None:
        self.stream, self.name, self._events = stream, name, events
        self.opened = time.monotonic()
        self.utterance_id: int | None = None
        self.begun: SpokenSegment | None = None
        self.chunks = Chunks()
        self.accepted = self.heard = self.ended = self.broken = self.left = self.cancel_sent = False

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
    """Owns the delivery thread. `open` and `leave` may be called by any thread."""

    def __init__(self, cancel: Callable[[int], None], fail: Callable[[str], None], observer: Observer) -> None:
        """cancel: how to tell the engine that a listener has gone. fail: and that nothing can be delivered any more."""
        self._cancel, self._fail, self._observer = cancel, fail, observer
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._live: dict[int, _Listener] = {}
        self._to_poll: deque[_Listener] = deque()
        self._named: dict[str, _Listener] = {}
        self._naming = threading.Lock()
        self._thread = threading.Thread(target=self._main, name="tts-delivery", daemon=True)

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def open(self, stream: ResponseStream, submit: Callable[[Sink], int], name: str | None = None) -> None:
        """Hand `stream` over, and submit its utterance with `submit(sink)`; `name`: by which its listener may leave.

        When `submit` raises, the error passes through and the stream stays the caller's.
        """
        listener = _Listener(stream, name, self._events)
        if name is not None:
            with self._naming:
                self._named[name] = listener
        try:
            utterance_id = submit(listener)
        except BaseException:
            self._forget(listener)
            raise
        self._events.put(_Event(listener, utterance_id))

    def leave(self, name: str) -> None:
        """The listener of that name does not want any more. A name nobody has, or has any more, is ignored."""
        with self._naming:
            listener = self._named.get(name)
        if listener is not None:
            listener.left = True
            self._cancel_once(listener)

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
                self._send_what_is_due()
                self._poll_some()
                self._observer.refresh()
                polled = now
        self._observer.refresh()

    def _send_what_is_due(self) -> None:
        """Chunks that will not fill before their listeners need them."""
        now = time.monotonic()
        for listener in list(self._live.values()):
            if listener.chunks.due(now):
                self._guarded(listener, partial(self._send, listener))

    def _poll_some(self) -> None:
        for _ in range(min(POLLS_AT_ONCE, len(self._to_poll))):
            listener = self._to_poll.popleft()
            if not listener.ended and not listener.cancel_sent:
                self._to_poll.append(listener)
                self._guarded(listener, partial(self._poll, listener))

    def _guarded(self, listener: _Listener, work: Callable[[], None]) -> None:
        """Do something with one stream; should that fail, its listener counts as gone, and the others do not suffer."""
        try:
            work()
        except Exception:  # whatever one stream's transport raises
            log.exception("a response stream is broken")
            listener.ended = listener.broken = True
            self._live.pop(id(listener), None)
            self._forget(listener)
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
        for content in contents:
            if isinstance(content, int):
                listener.utterance_id = content
                self._accept(listener)
            elif listener.ended:
                continue
            elif isinstance(content, SpokenSegment):
                self._send(listener)
                listener.begun = content
            elif isinstance(content, Outcome):
                self._finish(listener, content)
            else:
                listener.chunks.add(content)
        if listener.broken or listener.left:  # and perhaps its id had not come then
            self._cancel_once(listener)
        if not listener.ended:
            if id(listener) not in self._live:
                self._live[id(listener)] = listener
                self._to_poll.append(listener)
            if listener.chunks.due(time.monotonic()):
                self._send(listener)

    def _accept(self, listener: _Listener) -> None:
        """Sound may come before the id, and says as well that the utterance was taken in."""
        if not listener.accepted and not listener.ended:
            listener.accepted = True
            listener.stream.accept()

    def _send(self, listener: _Listener) -> None:
        pcm = listener.chunks.take(time.monotonic())
        if len(pcm):
            self._accept(listener)
            segment, listener.begun = listener.begun, None
            listener.stream.send(pcm, segment)
            self._hear(listener)

    def _finish(self, listener: _Listener, outcome: Outcome) -> None:
        self._accept(listener)
        self._live.pop(id(listener), None)
        listener.ended = True
        self._forget(listener)
        pcm = listener.chunks.take(time.monotonic())
        listener.stream.finish(pcm, outcome)
        if len(pcm):
            self._hear(listener)

    def _forget(self, listener: _Listener) -> None:
        """From now on its name is nobody's."""
        if listener.name is not None:
            with self._naming:
                if self._named.get(listener.name) is listener:
                    del self._named[listener.name]

    def _hear(self, listener: _Listener) -> None:
        if not listener.heard:
            listener.heard = True
            self._observer.first_audio(time.monotonic() - listener.opened)

    def _poll(self, listener: _Listener) -> None:
        if listener.utterance_id is not None and listener.stream.is_cancelled():
            self._cancel_once(listener)

    def _cancel_once(self, listener: _Listener) -> None:
        if listener.utterance_id is not None and not listener.cancel_sent:
            listener.cancel_sent = True
            self._cancel(listener.utterance_id)


def _by_listener(
    batch: list[_Event | None],
) -> list[tuple[_Listener, list[_Content]]]:
    """Events grouped by listener, each group in order; those who have heard nothing yet come first."""
    groups: dict[int, tuple[_Listener, list[_Content]]] = {}
    for event in batch:
        if event is not None:
            groups.setdefault(id(event.listener), (event.listener, []))[1].append(event.content)
    return sorted(groups.values(), key=lambda group: group[0].heard)
