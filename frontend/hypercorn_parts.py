"""What hypercorn lacks for sound: not to try to compress it, to hear a peer who reads slowly, to end well.

Hypercorn has settings for none of it, so its classes are replaced by these. It knows nothing of messages or sessions.
"""

import asyncio
from contextlib import suppress
from typing import Any

import hypercorn.protocol
from hypercorn.asyncio import run, tcp_server
from hypercorn.protocol import h2, h11, ws_stream
from hypercorn.protocol.events import StreamClosed
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event, Message, Ping, Pong
from wsproto.frame_protocol import CloseReason

from frontend.connection_end import ForgivingTaskGroup, FrankProtocol, LingeringServer


class UncompressedHandshake(ws_stream.Handshake):
    """Leaves a client's offer to compress messages unanswered, and refuses headers that are not ASCII.

    Browsers make that offer always. Sound hardly shrinks, and trying costs more than all else that is done for a
    message. Hypercorn fails over other bytes, without an answer.
    """

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        readable = [(name, value) for name, value in headers if value.isascii()]
        super().__init__(readable, http_version)
        self.extensions = None
        self._garbled = any(_is_handshakes(name) for name, value in headers if not value.isascii())

    def is_valid(self) -> bool:
        return not self._garbled and super().is_valid()


def _is_handshakes(name: bytes) -> bool:
    return name.lower().startswith(b"sec-websocket-") or name.lower() in (b"connection", b"upgrade")


class AttentiveStream(ws_stream.WSStream):
    """Hears a peer while sound for it waits to be read, tells it why it is closed, and forgets it when it has gone.

    Hypercorn answers pings and closes itself, behind all that waits, and reads nothing meanwhile: a peer that has
    stopped to read could neither cancel nor leave. Its pings keep a connection until the next one would be due. It
    drops one whose frames break the rules without a word, goes on keeping what a message has too much, and does not
    end a connection whose handshake it refuses.
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

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                await self._take(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                await self._leave(event)  # the peer's, to be answered, or wsproto's, which nobody has said yet
            if self.closed:
                return

    async def _take(self, event: Message) -> None:
        assert self.app_put is not None, "what sends messages was let in"
        try:
            self.buffer.extend(event)
        except ws_stream.FrameTooLargeError:
            self.buffer.clear()
            return await self._leave(CloseConnection(code=CloseReason.MESSAGE_TOO_BIG))
        if event.message_finished:
            await self.app_put(self.buffer.to_message())
            self.buffer.clear()

    async def _leave(self, last: CloseConnection) -> None:
        await self._send_wsproto_event(last)
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        await super()._send_error_response(status_code)
        await self.send(StreamClosed(stream_id=self.stream_id))

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
