"""How a connection ends: its last words arrive also at a peer who still sends, and it goes when the peer has gone.

Closed at once, a socket with unread bytes resets its peer, whose system then drops what it has not read yet: an error
that says why a body was refused, or a WebSocket's close code. So we end our side, and read a while for nothing
(RFC 9112, 9.6). It knows hypercorn's connections, and nothing of messages or sessions.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from types import MethodType
from typing import cast
from urllib.parse import unquote, urlsplit

from h11 import SEND_BODY, Request
from hypercorn.asyncio import task_group, tcp_server
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import events, h11
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

LINGER_S = 30.0
"""How long a peer may go on sending to a connection that we have ended."""
QUIET_S = 2.0
"""And how long it may send nothing and not end its side either."""


class LingeringServer(tcp_server.TCPServer):
    """One connection: ended by halves, and given back as soon as its peer has closed it.

    Hypercorn closes it at once, and keeps one that its peer has closed for as long as one more request might take.
    """

    _until: float | None = None
    _closing: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            vars(self).clear()  # most of what it holds holds it: only a search would find them

    async def _initiate_server_close(self) -> None:
        if vars(self):  # the time for one more request can run out in the very moment in which the peer leaves
            await super()._initiate_server_close()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Closed):
            self._end()
        else:
            await super().protocol_send(event)

    def _end(self) -> None:
        """Nothing more will be said; what is still to be sent goes first."""
        if self._until is None:
            self._until = self.loop.time() + LINGER_S
            with suppress(OSError, RuntimeError):
                self.writer.write_eof()
            self._wait()

    def _wait(self) -> None:
        assert self._until is not None, "only what has ended is waited for"
        if self._closing is not None:
            self._closing.cancel()
        self._closing = self.loop.call_at(min(self._until, self.loop.time() + QUIET_S), self.writer.close)

    async def _read_data(self) -> None:
        with suppress(OSError):  # also TimeoutError
            while data := await asyncio.wait_for(self.reader.read(tcp_server.MAX_RECV), self.config.read_timeout):
                if self._until is None:
                    await self.protocol.handle(RawData(data))
                else:
                    self._wait()
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    async def _close(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        with suppress(OSError):  # the peer may have gone in any way
            await super()._close()


class FrankProtocol(h11.H11Protocol):
    """Says that a connection will be closed, when it answers a request whose body is still on its way.

    Hypercorn closes it and does not say so, and the client's next request on it is lost. And it takes targets which
    the framework fails over; those are refused.
    """

    async def stream_send(self, event: events.Event) -> None:
        if isinstance(event, events.Response) and self.connection.their_state is SEND_BODY:
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _create_stream(self, request: Request) -> None:
        if _is_readable(request.target):
            return await super()._create_stream(request)
        await self._send_error_response(400)
        await self.send(Closed())


def _is_readable(target: bytes) -> bool:
    """Whether a request's target is a path, or has one in it."""
    path = unquote(target.partition(b"?")[0].decode("ascii"))
    try:
        return path.startswith("/") or urlsplit(path).path != ""
    except ValueError:
        return False


class ForgivingTaskGroup(task_group.TaskGroup):
    """What is said to an application that has ended is said to nobody.

    Hypercorn puts it into a queue, and once that is full, as when a peer goes on sending, waits for a reader for ever:
    a connection that would neither end nor be forgotten.
    """

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        ended = asyncio.Event()

        async def heard(message: ASGISendEvent | None) -> None:
            if message is None:
                ended.set()
            await send(message)

        put = await super().spawn_app(app, config, scope, heard)
        queue: asyncio.Queue[ASGIReceiveEvent] = cast(MethodType, put).__self__  # type: ignore[assignment]

        async def put_unless_ended(event: ASGIReceiveEvent) -> None:
            if ended.is_set():
                return
            if not queue.full():
                return queue.put_nowait(event)
            putting, ending = asyncio.create_task(queue.put(event)), asyncio.create_task(ended.wait())
            try:
                await asyncio.wait({putting, ending}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                putting.cancel()
                ending.cancel()

        return put_unless_ended
