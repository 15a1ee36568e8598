"""What hypercorn's WebSocket lacks for sound: not to try to compress it, and to hear a peer who reads slowly.

Hypercorn has settings for neither, so its classes are replaced by these. It knows nothing of messages or sessions.
"""

from hypercorn.protocol import h2, h11, ws_stream
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event, Pong


class UncompressedHandshake(ws_stream.Handshake):
    """Leaves a client's offer to compress messages unanswered.

    Browsers make it always. Sound hardly shrinks, and trying costs more than all else that is done for a message.
    """

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__(headers, http_version)
        self.extensions = None


class AttentiveStream(ws_stream.WSStream):
    """Hears a peer while sound for it waits to be read.

    Hypercorn answers pings and closes itself, behind all that waits, and reads nothing meanwhile: a peer that has
    stopped to read could neither cancel nor leave.
    """

    _owed: Pong | None = None
    _answering = False

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
    ws_stream.Handshake = UncompressedHandshake  # type: ignore[misc]
    h11.WSStream = h2.WSStream = AttentiveStream  # type: ignore[misc]
