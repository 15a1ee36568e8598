"""A WebSocket of a crowd's client: what was asked on it, how it ended, and every way to leave. Draws nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from benchmarks.serving_doors import REFUSALS
from benchmarks.soak_tally import Unexpected, Visit

ENDS = {"complete", "cancelled", "preempted", "max_length", "timeout"}
"""How an utterance may end that nothing went wrong with."""
_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST instead of FIN


class Line:
    """One open socket; version: of the protocol."""

    def __init__(self, connection: ClientConnection, visit: Visit, version: int) -> None:
        self._connection, self._visit, self.version = connection, visit, version
        self._changed = asyncio.Event()
        self._failed: dict[str, str] = {}
        self._asked: list[str] = []
        self._ended: set[str] = set()
        self.over = False
        self.sounds = 0
        self.complaints: list[str] = []
        """Codes of the errors that were about no utterance."""
        self.greetings = 0

    async def say(self, **message: Any) -> None:
        """Sends a message as it is; one that meets a closed socket is lost, as a client's would be."""
        await self.send(json.dumps(message))

    async def send(self, raw: str | bytes) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._connection.send(raw)

    async def speak(self, text: str, **fields: Any) -> str:
        """Asks for an utterance; its name."""
        name = f"u{len(self._asked)}"
        self._asked.append(name)
        self._visit.count("utterances")
        await self.say(type="speak", text=text, request_id=name, **fields)
        return name

    async def cancel(self, **which: Any) -> None:
        self._visit.count("cancels")
        await self.say(type="cancel", **which)

    async def stop(self, **how: Any) -> None:
        """Says goodbye, and returns when the server has closed as it should."""
        await self.say(type="stop", **how)
        await self.closed(1000)

    async def sounded(self) -> None:
        """Returns with the next sound, or when all that was asked for has ended."""
        heard = self.sounds
        await self.until(lambda: self.sounds > heard or self._all_ended())

    async def all_ended(self) -> None:
        """Returns when each utterance has had its one end. Raises Unexpected when the socket closes before."""
        await self.until(self._all_ended)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Raises Unexpected when the socket closes before the condition holds."""
        while not condition():
            if self.over:
                raise Unexpected(f"the socket closed with {self.code} before the end of {self._open()}")
            self._changed.clear()
            await self._changed.wait()

    async def closed(self, *codes: int) -> None:
        """Returns when the server has closed. Raises Unexpected for another code than these."""
        while not self.over:
            self._changed.clear()
            await self._changed.wait()
        if self.code not in codes:
            raise Unexpected(f"the socket closed with {self.code}, not {' or '.join(map(str, codes))}")

    @property
    def code(self) -> int | None:
        return self._connection.close_code

    def reset(self) -> None:
        """Leaves as a crashed machine does: with RST, and without a word."""
        self._visit.count("drops")
        self._connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._connection.transport.abort()

    def stop_reading(self) -> None:
        transport = self._connection.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        transport.pause_reading()

    def read_on(self) -> None:
        if not self._connection.transport.is_closing():
            self._connection.transport.resume_reading()

    async def read(self) -> None:
        """Takes what comes until the socket is closed."""
        try:
            async for frame in self._connection:
                if isinstance(frame, bytes):
                    self.sounds += 1
                else:
                    self._told(json.loads(frame))
                self._changed.set()
        except ConnectionClosed:
            pass
        finally:
            self.over = True
            self._changed.set()

    def _open(self) -> list[str]:
        return [name for name in self._asked if name not in self._ended]

    def _all_ended(self) -> bool:
        return len(self._ended) == len(self._asked)

    def _told(self, message: dict[str, Any]) -> None:
        kind, name = message["type"], str(message.get("request_id"))
        if kind == "ready":
            self.greetings += 1
        elif kind == "audio_end":
            reason = message.get("reason") or ("cancelled" if message["cancelled"] else "complete")
            self._end(name, self._failed.get(name, reason))
        elif kind == "error" and (name not in self._asked or message["code"] == "UNKNOWN_REQUEST"):
            self.complaints.append(message["code"])
        elif kind == "error" and message.get("accepted"):
            self._failed[name] = message["code"]  # its end is still to come
        elif kind == "error" and (self.version == 1 or "accepted" in message):
            self._end(name, message["code"])
        elif kind == "error":
            self.complaints.append(message["code"])

    def _end(self, name: str, how: str) -> None:
        if name in self._ended or name not in self._asked:
            self._visit.tally.unexpected[f"a second end, {how}, of one utterance, or one of none"] += 1
        self._ended.add(name)
        self._visit.count("refused" if how in REFUSALS else how)
        if how not in ENDS and how not in REFUSALS:
            self._visit.tally.unexpected[f"an utterance of protocol {self.version} ended with {how}"] += 1


@contextlib.asynccontextmanager
async def open_line(visit: Visit, version: int) -> AsyncIterator[Line]:
    """A socket that is read from, and gone when the block is left. Raises what websockets raises."""
    asked = [Subprotocol("speak.v2")] if version == 2 else None
    headers = {"Authorization": f"Bearer {visit.places.key}"}
    async with connect(
        visit.places.websocket, subprotocols=asked, additional_headers=headers, compression=None, max_size=None
    ) as connection:
        line = Line(connection, visit, version)
        reading = asyncio.create_task(line.read())
        try:
            if version == 2:
                await line.until(lambda: line.greetings > 0)
            yield line
        finally:
            line.read_on()
            await connection.close()
            await reading
