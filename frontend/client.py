"""A client of protocol v2 for Python programs: connects and connects anew, speaks, streams text, cancels.

Knows only the wire: neither what the server does with it nor what becomes of the sound.
"""

import asyncio
import itertools
import json
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from frontend.framing import read_tagged
from frontend.heard import Audio, ClientError, ConnectionLost, Event, NotConnected, OldServer, Refused, Utterance

__all__ = ["Audio", "ClientError", "ConnectionLost", "Event", "NotConnected", "OldServer", "Refused", "SpeechClient"]

SUBPROTOCOL = "speak.v2"
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 5.0


class SpeechClient:
    """One connection, made anew when it is needed after it was lost. Use it with `async with`."""

    def __init__(self, url: str, *, token: str | None = None, patience_s: float = 10.0, **start: Any) -> None:
        """`start`: fields of the message of that name. `patience_s`: how long to try to connect again."""
        self._url = url
        self._token = token
        self._patience_s = patience_s
        self._start = start
        self._tagged = start.get("format", {}).get("framing") == "tagged"
        self._connection: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._names = itertools.count(1)
        self._live: dict[str, Utterance] = {}
        self._playing: Utterance | None = None
        self._greeted: asyncio.Future[dict[str, Any]] | None = None
        self.ready: dict[str, Any] = {}
        """The server's greeting."""

    async def __aenter__(self) -> Self:
        await self.connect(patient=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self, *, patient: bool = True) -> None:
        """Returns when the server has greeted. Raises NotConnected, after `patience_s` if `patient`."""
        async with self._connecting:
            deadline = asyncio.get_running_loop().time() + (self._patience_s if patient else 0.0)
            pause = FIRST_RETRY_S
            while self._connection is None:
                try:
                    await self._connect()
                except OldServer:
                    raise
                except NotConnected:
                    if asyncio.get_running_loop().time() + pause > deadline:
                        raise
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_RETRY_S)

    async def close(self) -> None:
        """Ends the connection and every utterance on it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        if self._reading is not None:
            await asyncio.wait({self._reading})

    async def speak(self, text: str, *, final: bool = True, **fields: Any) -> Utterance:
        """A new utterance; `final` false: more text will be appended. Connects anew if need be."""
        await self.connect()
        utterance = Utterance(self, f"c{next(self._names)}")
        self._live[utterance.request_id] = utterance
        message = {"type": "speak", "request_id": utterance.request_id, "text": text, "final": final, **fields}
        try:
            await self.send(message)
        except ConnectionLost:
            del self._live[utterance.request_id]
            raise
        return utterance

    async def cancel_all(self) -> None:
        """Asks for the end of all utterances."""
        await self.send({"type": "cancel"})

    async def send(self, message: dict[str, Any]) -> None:
        """One message as it is. Raises ConnectionLost."""
        if self._connection is None:
            raise ConnectionLost(f"there is no connection to {self._url}")
        try:
            await self._connection.send(json.dumps(message))
        except ConnectionClosed as closed:
            raise ConnectionLost(f"the connection was lost: {closed}") from None

    async def _connect(self) -> None:
        offered = [Subprotocol(SUBPROTOCOL)] + ([] if self._token is None else [Subprotocol(f"bearer.{self._token}")])
        try:
            connection = await connect(self._url, subprotocols=offered, compression=None, max_size=None)
        except InvalidURI:
            raise NotConnected(f"{self._url} is not a WebSocket address such as ws://host:8080/api/v1/speak") from None
        except InvalidHandshake as error:
            raise NotConnected(f"{self._url} did not accept the connection: {error}") from None
        except OSError as error:
            reason = error.strerror or error
            raise NotConnected(f"cannot reach {self._url}: {reason}; is the server running?") from None
        if connection.subprotocol != SUBPROTOCOL:
            await connection.close()
            raise OldServer(f"{self._url} does not speak {SUBPROTOCOL}")
        await self._begin(connection)

    async def _begin(self, connection: ClientConnection) -> None:
        """Waits for the greeting, and for the answer to our own `start`."""
        try:
            self.ready = json.loads(await connection.recv())
            if self._start:
                await connection.send(json.dumps({"type": "start", "protocol": 2, **self._start}))
                answer = json.loads(await connection.recv())
                if answer["type"] != "ready":
                    await connection.close()
                    raise Refused(answer)
                self.ready = answer
        except ConnectionClosed as closed:
            raise NotConnected(f"{self._url} closed the connection: {closed}") from None
        self._connection = connection
        self._reading = asyncio.create_task(self._read(connection))

    async def _read(self, connection: ClientConnection) -> None:
        reason = "the connection was closed"
        try:
            async for frame in connection:
                self._take(frame)
            reason = f"the server closed the connection: {connection.close_code} {connection.close_reason or ''}"
        except ConnectionClosed as closed:
            reason = f"the connection was lost: {closed}"
        finally:
            if self._connection is connection:
                self._connection = None
            self._playing = None
            lost, self._live = self._live, {}
            for utterance in lost.values():
                utterance.take(ConnectionLost(reason.strip()))

    def _take(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            self._take_audio(frame)
            return
        fields = json.loads(frame)
        utterance = self._live.get(fields.get("request_id"))
        if utterance is None:
            return
        if fields["type"] == "audio_start":
            self._playing = utterance
        if utterance.take(Event(fields["type"], fields)):
            del self._live[utterance.request_id]

    def _take_audio(self, frame: bytes) -> None:
        if not self._tagged:
            if self._playing is not None:
                self._playing.take(Audio(frame))
            return
        tagged = read_tagged(frame)
        for utterance in self._live.values():
            if utterance.stream_id == tagged.stream_id and not tagged.last:
                utterance.take(Audio(tagged.payload, tagged.sample_offset))
