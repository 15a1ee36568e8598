"""What every protocol needs of a WebSocket: the socket itself, the ways a session ends, and the numbers for it.

It knows neither the web framework nor any message.
"""

import asyncio
import contextlib
from typing import Protocol

from frontend.synthesis import BYTES_PER_SAMPLE, FRAME_SAMPLES

STOPPED, DRAINED, ABUSE, DEFECT, SLOW, IDLE, TOO_LONG = 1000, 1001, 1008, 1011, 1013, 4408, 4409
MAX_PIECE_BYTES = 2 * FRAME_SAMPLES * BYTES_PER_SAMPLE  # 160 ms: a cancel never waits behind more
MAX_UNREAD_MESSAGES = 1024
FAREWELL_S = 1.0


class Socket(Protocol):
    """An accepted WebSocket. receive() and send() are cancelled when the peer leaves."""

    async def receive(self) -> str | bytes: ...
    async def send(self, data: str | bytes) -> None: ...
    async def close(self, code: int, reason: str) -> None: ...


class EndSession(Exception):
    """Raised by any task of a session to end all of it with a close code."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


async def send_in_time(socket: Socket, data: str | bytes, limit_s: float) -> None:
    """Raises EndSession when the peer does not take it within `limit_s`."""
    try:
        async with asyncio.timeout(limit_s):
            await socket.send(data)
    except TimeoutError:
        raise EndSession(SLOW, f"slow consumer: a send took longer than {limit_s:g} s") from None


async def close(socket: Socket, ending: EndSession) -> None:
    """Closes; a peer that does not read would make that wait for ever, so not for longer than FAREWELL_S."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL_S):
            await socket.close(ending.code, ending.reason)
