"""One socket of protocol v2: reads always, lets requests be spoken as they wish, writes from one place.

It knows neither the web framework nor what makes the speech, nor how a request is spoken.
"""

import asyncio
import contextlib
import logging
import math
from functools import partial
from typing import NoReturn

from frontend import events_v2 as events
from frontend import messages_v2 as messages
from frontend.connection import (
    ABUSE,
    DEFECT,
    DRAINED,
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
from frontend.readiness import Readiness
from frontend.requests_v2 import Refused, Requests
from frontend.serving import Serving
from frontend.settings import Settings
from frontend.socket_life import SocketLife, until_the_end
from frontend.spoken import Spoken
from frontend.synthesis import Speech

log = logging.getLogger(__name__)

MAX_INVALID_IN_A_ROW = 10
DOOR = "websocket"
EXPIRED = {IDLE: events.IDLE_TIMEOUT, TOO_LONG: events.SESSION_TOO_LONG}


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
        self._life = SocketLife(settings)
        self._lanes = Lanes(MAX_UNREAD_MESSAGES)
        self._serving = Serving(speech, readiness, settings, self._put, self._fail)
        self._dispatcher = Dispatcher(self._serving.serve, self._ended)
        self._requests = Requests(self._dispatcher, self._lanes, settings, self._put, metrics)
        self._standing = messages.Start(messages.Wishes())
        self._invalid = 0
        self._stopping = False
        self._last_error: str | None = None

    async def run(self, start: str | None = None) -> None:
        """Serves until the client stops, a limit is met, or `end` is called; `start`: the first message, if read.

        Cancelling it (the client left) cancels everything that is being spoken.
        """
        ending: EndSession | None = None
        try:
            ending = await until_the_end(self._session_id, partial(self._begin, start))
        finally:
            for spoken in self._dispatcher:
                self._report(spoken, "lost" if ending is None else f"closed_{ending.code}")
            self._dispatcher.close()
            self._lanes.close()
        await close(self._socket, ending)

    async def _begin(self, start: str | None, group: asyncio.TaskGroup) -> None:
        with contextlib.suppress(SpeechError):
            await self._readiness.require()
        self._dispatcher.begin(group)
        self._greet(start)
        expire = self._life.expire(lambda: len(self._dispatcher), self._dismiss, self.idle)
        for part in (self._read(), self._write(), expire):
            group.create_task(part)

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
        if self._life.end(code, reason):
            self._last_error = error

    def _greet(self, start: str | None) -> None:
        if start is None:
            self._put(self._ready())
        else:
            self._receive(start, self._life.now())

    async def _read(self) -> NoReturn:
        while True:
            raw = await self._socket.receive()
            if self._life.is_ending:
                continue  # only so that the peer's leaving is noticed
            now = self._life.touch()
            if (flooded := self._life.flooded(now)) is None:
                self._receive(raw, now)
            else:
                self.end(ABUSE, flooded, events.error(events.TOO_MANY_REQUESTS, flooded, recoverable=False))

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
            # A word or an end that is refused would spoil a request that was taken; its characters are limited.
            case messages.Text(request_id, text):
                self._requests.append(request_id, text)
            case messages.End(request_id):
                self._requests.end(request_id)
            case _ if (refused := self._life.refused(now)) is not None:
                self._refuse_for_rate(message, refused, now)
            case messages.Start():
                self._start(message)
            case messages.Speak():
                self._requests.speak(message, now)
            case messages.Flush(request_id):
                self._requests.flush(request_id)

    def _refuse_for_rate(self, message: messages.Message, text: str, now: float) -> None:
        request_id = None if isinstance(message, messages.Start | messages.Ping | messages.Stop) else message.request_id
        accepted = False if isinstance(message, messages.Speak) else None
        self._count_refusal(events.TOO_MANY_REQUESTS, accepted)
        retry_ms = math.ceil(self._life.refused_for_s(now) * 1000)
        self._put(events.error(events.TOO_MANY_REQUESTS, text, request_id, accepted=accepted, retry_after_ms=retry_ms))

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
        self._life.touch()
        self._report(spoken, spoken.reason)
        if self._stopping and not len(self._dispatcher):
            self.end(STOPPED, "")

    async def _write(self) -> NoReturn:
        while True:
            data = await self._lanes.take()
            begun = self._life.now()
            await send_in_time(self._socket, data, self._settings.send_timeout_s)
            if self._metrics is not None:
                self._metrics.blocked.labels(DOOR).inc(self._life.now() - begun)

    def _dismiss(self, ending: EndSession) -> None:
        if ending.code in EXPIRED:
            self._put(events.error(EXPIRED[ending.code], ending.reason))
        elif self._last_error is not None:
            self._put(self._last_error)
        self._requests.cancel_all("draining" if ending.code == DRAINED else "cancelled")

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
        log.info("utterance session=%s %s", self._session_id, spoken.summary(reason, self._life.now()))
