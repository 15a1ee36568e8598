"""What the messages of a protocol v2 client do to its requests: which are accepted, continued, cancelled, refused.

It knows neither sockets nor how a request is spoken.
"""

import itertools
from collections.abc import Callable

from frontend import events_v2 as events
from frontend import messages_v2 as messages
from frontend.dispatcher import Dispatcher
from frontend.framing import MAX_STREAM_ID, Framing, Plain, Tagged
from frontend.lanes import Lanes
from frontend.messages import unspeakable
from frontend.metrics import Metrics
from frontend.settings import Settings
from frontend.spoken import Spoken
from frontend.text_feed import TextFeed

MAX_WAITING_FLUSHES = 64
# A model token cut in two by an append is found when so much of what came before is looked at again.
OVERLAP_CHARS = 64


class Refused(Exception):
    """A valid message that does not fit what is going on."""

    def __init__(self, code: str, message: str, request_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


class Requests:
    """All requests of one socket, by the ids that its client gave them."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        lanes: Lanes,
        settings: Settings,
        put: Callable[[str], None],
        metrics: Metrics | None,
    ) -> None:
        self._dispatcher = dispatcher
        self._lanes = lanes
        self._settings = settings
        self._put = put
        self._metrics = metrics
        self._names = itertools.count(1)
        self._streams = itertools.cycle(range(1, MAX_STREAM_ID + 1))
        self._tagged = False
        self.closed: str | None = None
        """Why no new request is taken any more."""

    def frame(self, framing: str) -> None:
        """Chooses the framing of all that follow. Only while there is no request."""
        self._tagged = framing == "tagged"
        self._dispatcher.max_active = self._settings.max_active if self._tagged else 1

    def speak(self, speak: messages.Speak, now: float) -> None:
        """Accepts a request. Raises Refused."""
        request_id = speak.request_id or self._new_id()
        position = self._dispatcher.position(speak.wishes.mode)
        self._require_place(request_id, len(speak.text), position)
        announced = False
        if speak.wishes.mode == "interrupt":
            announced = len(self._dispatcher) > 0
            self.cancel_all("preempted")
        if position:
            announced = True
            self._put(events.queued(request_id, position))
        if speak.wishes.timestamps == "word":
            text = "this server marks segments, not words"
            self._put(events.warning(events.TIMESTAMPS_UNAVAILABLE, text, request_id))
        self._dispatcher.submit(self._spoken(request_id, speak, now, announced))

    def append(self, request_id: str, text: str) -> None:
        """More text for a request that is being written. Raises Refused."""
        feed = self._open(request_id).feed
        length = len(feed.text) + len(text)
        if length > self._settings.max_request_chars:
            limit = f"the limit is {self._settings.max_request_chars}"
            raise Refused(messages.TEXT_TOO_LONG, f"the request would have {length} characters, {limit}", request_id)
        problem = unspeakable(feed.text[-OVERLAP_CHARS:] + text)
        if problem is not None:
            raise Refused(messages.INVALID_MESSAGE, f"together with what came before, {problem}", request_id)
        feed.append(text)

    def flush(self, request_id: str) -> None:
        """What came so far is to be spoken to its end. Raises Refused."""
        feed = self._open(request_id).feed
        if feed.waiting_flushes >= MAX_WAITING_FLUSHES:
            text = f"{MAX_WAITING_FLUSHES} flushes of the request wait, which is the limit"
            raise Refused(events.TOO_MANY_REQUESTS, text, request_id)
        feed.flush()

    def end(self, request_id: str) -> None:
        """The text of a request is complete. Raises Refused."""
        self._open(request_id).feed.end()

    def cancel(self, request_id: str | None, played_ms: float | None) -> None:
        """Ends one or all; an id that is not there any more was ended by somebody else."""
        for spoken in self._dispatcher:
            if request_id in (None, spoken.request_id):
                if not spoken.cancelled:
                    spoken.played_ms = played_ms
                self._dispatcher.cancel(spoken, "cancelled")

    def cancel_all(self, reason: str) -> None:
        """Ends all of them."""
        for spoken in self._dispatcher:
            self._dispatcher.cancel(spoken, reason)

    def _require_place(self, request_id: str, characters: int, position: int) -> None:
        settings = self._settings
        if self.closed is not None:
            raise Refused(events.TTS_NOT_READY, self.closed, request_id)
        if self._dispatcher.find(request_id) is not None:
            raise Refused(events.DUPLICATE_REQUEST, "a request of this id has not ended yet", request_id)
        if characters > settings.max_request_chars:
            limit = f"the limit is {settings.max_request_chars}"
            raise Refused(messages.TEXT_TOO_LONG, f"text has {characters} characters, {limit}", request_id)
        if position and self._dispatcher.waiting >= settings.max_waiting:
            text = f"{self._dispatcher.waiting} requests wait on this socket, the limit is {settings.max_waiting}"
            raise Refused(events.TOO_MANY_REQUESTS, text, request_id)

    def _open(self, request_id: str) -> Spoken:
        """A request that takes more text. Raises Refused."""
        spoken = self._dispatcher.find(request_id)
        if spoken is None:
            raise Refused(events.UNKNOWN_REQUEST, "no request of this id is open", request_id)
        if spoken.feed.complete:
            raise Refused(events.UNKNOWN_REQUEST, "the text of this request is complete", request_id)
        if spoken.reason != "complete" or spoken.settled.is_set():
            raise Refused(events.UNKNOWN_REQUEST, f"this request is ending: {spoken.reason}", request_id)
        return spoken

    def _spoken(self, request_id: str, speak: messages.Speak, now: float, announced: bool) -> Spoken:
        feed = TextFeed(speak.text)
        if speak.final:
            feed.end()
        stream_id = self._new_stream()
        framing: Framing = Tagged(stream_id) if self._tagged else Plain()
        lane = self._lanes.lane(self._settings.max_buffered_audio_s)
        tally = None if self._metrics is None else self._metrics.utterance("websocket")
        return Spoken(request_id, speak, stream_id, framing, lane, feed, now, announced=announced, tally=tally)

    def _new_id(self) -> str:
        return next(name for number in self._names if self._dispatcher.find(name := f"r_{number}") is None)

    def _new_stream(self) -> int:
        taken = {spoken.stream_id for spoken in self._dispatcher}
        return next(stream for stream in self._streams if stream not in taken)
