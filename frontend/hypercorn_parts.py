"""What hypercorn lacks for sound: not to try to compress it, to hear a peer who reads slowly, to end well.

Hypercorn has settings for none of it, so its classes are replaced by these. It knows nothing of messages or sessions.
"""

import asyncio
from contextlib import suppress
from typing import Any

import hypercorn.protocol
from hypercorn.asyncio import run, tcp_server
from hypercorn.protocol import h2, h11, ws_stream
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event, Ping, Pong

from frontend.connection_end import ForgivingTaskGroup, FrankProtocol, LingeringServer


class UncompressedHandshake(ws_stream.Handshake):
    """Leaves a client's offer to compress messages unanswered.

    Browsers make it always. Sound hardly shrinks, and trying costs more than all else that is done for a message.
    """

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__(headers, http_version)
        self.extensions = None


class AttentiveStream(ws_stream.WSStream):
    """Hears a peer while sound for it waits to be read, and sends it no pings when it has gone.

    Hypercorn answers pings and closes itself, behind all that waits, and reads nothing meanwhile: a peer that has
    stopped to read could neither cancel nor leave. And its pings keep a connection until the next one would be due.
    """

    _owed: Pong | None = None
    _answering = False

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._gone = asyncio.Event()

    async def handle(self, event: Any) -> None:
        await super().handle(event)
        if self.closed:
            self._gone.set()

    async def _send_pings(self) -> None:
        while not self.closed:
            await self._send_wsproto_event(Ping())
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.websocket_ping_interval):
                    await self._gone.wait()

    async def _send_wsproto_event(self, event: Event) -> None:
        if isinstance(event, Pong):
            self._owed = event  # only the latest ping wants an answer (RFC 6455, 5.5.3)
            if not self._answering:
                self._answering = True
                self.task_group.spawn(self._answer)
            return
        if isinstance(event, CloseConnection) and self.connection.state is ConnectionState.REMOTE_CLOSING:
            assert self.app_put is not None, "a peer closes what was opened"
            await self.app_put({"type": "websocket.disconnect", "code": event.code})
        await super()._send_wsproto_event(event)

    async def _answer(self) -> None:
        try:
            while self._owed is not None:
                event, self._owed = self._owed, None
                await super()._send_wsproto_event(event)
        finally:
            self._answering = False


def install() -> None:
    """Put them in the place of hypercorn's, for all servers of this process."""
    run.TCPServer = LingeringServer  # type: ignore[misc]
    tcp_server.TaskGroup = ForgivingTaskGroup  # type: ignore[misc]
    hypercorn.protocol.H11Protocol = FrankProtocol  # type: ignore[misc]
    ws_stream.Handshake = UncompressedHandshake  # type: ignore[misc]
    h11.WSStream = h2.WSStream = AttentiveStream  # type: ignore[misc]
