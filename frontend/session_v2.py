"""One socket of protocol v2: reads always, lets requests be spoken as they wish, writes from one place.

It knows neither the web framework nor what makes the speech, nor how a request is spoken.
"""

import asyncio
import contextlib
import logging
import math
from typing import NoReturn

from frontend import events_v2 as events
from frontend import messages_v2 as messages
from frontend.connection import (
    ABUSE,
    DEFECT,
    DRAINED,
    FAREWELL_S,
    IDLE,
    MAX_UNREAD_MESSAGES,
    SLOW,
    STOPPED,
    TOO_LONG,
    EndSession,
    Socket,
    close,
    send_in_time,
)
from frontend.dispatcher import Dispatcher
from frontend.errors import SpeechError
from frontend.lanes import Data, Lanes
from frontend.metrics import Metrics
from frontend.outbox import OutboxFull
from frontend.rate_limit import TokenBucket
from frontend.readiness import Readiness
from frontend.requests_v2 import Refused, Requests
from frontend.serving import Serving
from frontend.settings import Settings
from frontend.spoken import Spoken
from frontend.synthesis import Speech

log = logging.getLogger(__name__)

MAX_INVALID_IN_A_ROW = 10
DOOR = "websocket"


class SessionV2:
    """Serves one socket. `run` returns when the socket was closed and no task is left."""

    def __init__(
        self,
        socket: Socket,
        speech: Speech,
        readiness: Readiness,
        settings: Settings,
        session_id: str,
        metrics: Metrics | None = None,
    ) -> None:
        self._socket = socket
        self._readiness = readiness
        self._settings = settings
        self._session_id = session_id
        self._metrics = metrics
        now = self._now()
        self._started_at = self._active_at = now
        self._messages = TokenBucket(settings.message_rate_per_s, settings.message_burst, now)
        self._flood = TokenBucket(settings.flood_rate_per_s, settings.flood_rate_per_s, now)
        self._lanes = Lanes(MAX_UNREAD_MESSAGES)
        self._serving = Serving(speech, readiness, settings, self._put, self._fail)
        self._dispatcher = Dispatcher(self._serving.serve, self._ended)
        self._requests = Requests(self._dispatcher, self._lanes, settings, self._put, metrics)
        self._standing = messages.Start(messages.Wishes())
        self._invalid = 0
        self._stopping = False
        self._ending: asyncio.Future[EndSession] = asyncio.get_running_loop().create_future()
        self._last_error: str | None = None

    async def run(self, start: str | None = None) -> None:
        """Serves until the client stops, a limit is met, or `end` is called; `start`: the first message, if read.

        Cancelling it (the client left) cancels everything that is being spoken.
        """
        ending: EndSession | None = None
        try:
            with contextlib.suppress(SpeechError):
                await self._readiness.require()
            async with asyncio.TaskGroup() as group:
                self._dispatcher.begin(group)
                self._greet(start)
                for part in (self._read(), self._write(), self._expire()):
                    group.create_task(part)
        except* EndSession as ended:
            first = ended.exceptions[0]
            assert isinstance(first, EndSession)
            ending = first
        except* Exception:  # the root of this socket: a defect ends it, not the server
            log.exception("session failed session=%s", self._session_id)
            ending = EndSession(DEFECT, "internal error")
        finally:
            for spoken in self._dispatcher:
                self._report(spoken, "lost" if ending is None else f"closed_{ending.code}")
            self._dispatcher.close()
            self._lanes.close()
        if ending is not None:
            await close(self._socket, ending)

    async def idle(self) -> None:
        """Returns when nothing is being spoken or waits and all of it was written, or when `run` has ended."""
        await self._dispatcher.idle()
        await self._lanes.emptied()

    def drain(self) -> None:
        """From now on refuses new requests, says so, and sends what is spoken as fast as it is taken."""
        self._requests.closed = "the server is shutting down"
        self._serving.hurry.set()
        self._put(events.draining(round(self._settings.drain_s * 1000)))

    def end(self, code: int, reason: str, error: str | None = None) -> None:
        """Asks for the end: `error` is said, what still runs is cancelled and told so, and the socket closed."""
        if not self._ending.done():
            self._last_error = error
            self._ending.set_result(EndSession(code, reason))

    def _greet(self, start: str | None) -> None:
        if start is None:
            self._put(self._ready())
        else:
            self._receive(start, self._now())

    async def _read(self) -> NoReturn:
        while True:
            raw = await self._socket.receive()
            if self._ending.done():
                continue  # only so that the peer's leaving is noticed
            now = self._active_at = self._now()
            if self._flood.take(now):
                self._receive(raw, now)
            else:
                text = f"more than {self._settings.flood_rate_per_s:g} messages per second"
                self.end(ABUSE, text, events.error(events.TOO_MANY_REQUESTS, text, recoverable=False))

    def _receive(self, raw: str | bytes, now: float) -> None:
        try:
            message = messages.parse(raw, self._standing, self._settings.max_text_chars)
        except messages.InvalidMessage as invalid:
            self._invalid += 1
            last = self._invalid >= MAX_INVALID_IN_A_ROW
            accepted = False if invalid.speaks else None
            self._count_refusal(invalid.code, accepted)
            error = events.error(
                invalid.code, str(invalid), invalid.request_id, accepted=accepted, recoverable=False if last else None
            )
            if last:
                self.end(ABUSE, f"{MAX_INVALID_IN_A_ROW} invalid messages in a row", error)
            else:
                self._put(error)
            return
        self._invalid = 0
        try:
            self._obey(message, now)
        except Refused as refused:
            accepted = False if isinstance(message, messages.Speak) else None
            self._count_refusal(refused.code, accepted)
            self._put(events.error(refused.code, str(refused), refused.request_id, accepted=accepted))

    def _obey(self, message: messages.Message, now: float) -> None:
        match message:
            case messages.Cancel(request_id, played_ms):
                self._requests.cancel(request_id, played_ms)
            case messages.Ping(name):
                self._put(events.pong(name))
            case messages.Stop(drain):
                self._stop(drain)
            case _ if not self._messages.take(now):
                self._refuse_for_rate(message, now)
            case messages.Start():
                self._start(message)
            case messages.Speak():
                self._requests.speak(message, now)
            case messages.Text(request_id, text):
                self._requests.append(request_id, text)
            case messages.Flush(request_id):
                self._requests.flush(request_id)
            case messages.End(request_id):
                self._requests.end(request_id)

    def _refuse_for_rate(self, message: messages.Message, now: float) -> None:
        settings = self._settings
        text = f"too many messages, the limit is {settings.message_rate_per_s:g} per second, {settings.message_burst}"
        request_id = None if isinstance(message, messages.Start | messages.Ping | messages.Stop) else message.request_id
        accepted = False if isinstance(message, messages.Speak) else None
        self._count_refusal(events.TOO_MANY_REQUESTS, accepted)
        retry_ms = math.ceil(self._messages.wait_s(now) * 1000)
        self._put(
            events.error(
                events.TOO_MANY_REQUESTS, f"{text} at once", request_id, accepted=accepted, retry_after_ms=retry_ms
            )
        )

    def _start(self, start: messages.Start) -> None:
        if len(self._dispatcher):
            raise Refused(messages.INVALID_MESSAGE, "`start` may come only while there is no request")
        self._standing = start
        self._requests.frame(start.framing)
        self._put(self._ready())

    def _ready(self) -> str:
        return events.ready(self._session_id, self._readiness.description, self._standing, self._settings)

    def _stop(self, drain: bool) -> None:
        self._requests.closed = "the client has asked for the end of the session"
        if drain and len(self._dispatcher):
            self._stopping = True
        else:
            self.end(STOPPED, "")

    def _fail(self, reason: str) -> None:
        self.end(DEFECT, reason)

    def _ended(self, spoken: Spoken) -> None:
        if spoken.cancelled:
            self._put(*spoken.terminal())
        self._active_at = self._now()
        self._report(spoken, spoken.reason)
        if self._stopping and not len(self._dispatcher):
            self.end(STOPPED, "")

    async def _write(self) -> NoReturn:
        while True:
            data = await self._lanes.take()
            begun = self._now()
            await send_in_time(self._socket, data, self._settings.send_timeout_s)
            if self._metrics is not None:
                self._metrics.blocked.labels(DOOR).inc(self._now() - begun)

    async def _expire(self) -> NoReturn:
        session_end = self._started_at + self._settings.max_session_s
        while not self._ending.done():
            idle_from = self._now() if len(self._dispatcher) else self._active_at
            idle_end = idle_from + self._settings.idle_timeout_s
            if self._now() >= session_end:
                text = f"the session is older than {self._settings.max_session_s:g} s"
                self.end(TOO_LONG, text, events.error(events.SESSION_TOO_LONG, text))
            elif self._now() >= idle_end:
                text = f"idle for {self._settings.idle_timeout_s:g} s"
                self.end(IDLE, text, events.error(events.IDLE_TIMEOUT, text))
            else:
                await asyncio.wait({self._ending}, timeout=min(idle_end, session_end) - self._now())
        ending = self._ending.result()
        if self._last_error is not None:
            self._put(self._last_error)
        self._requests.cancel_all("draining" if ending.code == DRAINED else "cancelled")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self.idle()
        raise ending

    def _put(self, *pieces: Data) -> None:
        try:
            self._lanes.put(*pieces)
        except OutboxFull as full:
            self.end(SLOW, f"slow consumer: {full}")

    def _count_refusal(self, code: str, accepted: bool | None) -> None:
        if self._metrics is not None and accepted is False:
            self._metrics.refused(DOOR, code)

    def _report(self, spoken: Spoken, reason: str) -> None:
        if spoken.tally is not None:
            spoken.tally.ended(reason)
        log.info("utterance session=%s %s", self._session_id, spoken.summary(reason, self._now()))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
