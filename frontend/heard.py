"""One utterance as a client of protocol v2 sees it: text on its way there, sound and events on their way back.

Knows the wire's messages; the connection they travel on is passed in.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

# Text is gathered for so long before it is sent: well below the rate of messages a server takes.
GATHER_S = 0.05
MAX_TEXT_CHARS = 4_000


class ClientError(Exception):
    """What was asked for was not done; the message says why."""


class NotConnected(ClientError):
    """There is no server at the address, or none for this client."""


class OldServer(NotConnected):
    """The server does not speak protocol v2."""


class ConnectionLost(ClientError):
    """The connection ended before the utterance did."""


class Refused(ClientError):
    """The server did not accept the request, or failed while it spoke."""

    def __init__(self, event: dict[str, Any]) -> None:
        super().__init__(f"{event['code']}: {' '.join(str(event['message']).split())}")
        self.code: str = event["code"]
        self.recoverable: bool = event["recoverable"]
        self.retry_after_ms: int | None = event.get("retry_after_ms")


@dataclass(frozen=True)
class Audio:
    """Sound in the format that was asked for; `sample_offset` where the server tells it."""

    payload: bytes
    sample_offset: int | None = None


@dataclass(frozen=True)
class Event:
    """A JSON message about one utterance."""

    type: str
    fields: dict[str, Any] = field(repr=False)


class Sender(Protocol):
    """Whatever takes messages to the server."""

    async def send(self, message: dict[str, Any]) -> None: ...


class Utterance:
    """One request: iterate it for its Audio and Events; the last is its `audio_end`.

    Iteration raises Refused or ConnectionLost.
    """

    def __init__(self, client: Sender, request_id: str) -> None:
        self._client = client
        self._arrived: asyncio.Queue[Audio | Event | ClientError] = asyncio.Queue()
        self._failure: Refused | None = None
        self._unsent = ""
        self._gathered: asyncio.Task[None] | None = None
        self._over = False
        self.request_id = request_id
        self.stream_id: int | None = None
        self.audio_end: dict[str, Any] | None = None

    async def append(self, text: str) -> None:
        """More text; many small pieces are sent as few."""
        self._unsent += text
        if len(self._unsent) >= MAX_TEXT_CHARS:
            await self._send_text()
        elif self._gathered is None or self._gathered.done():
            self._gathered = asyncio.create_task(self._gather())

    async def flush(self) -> None:
        """What came so far is to be spoken to its end."""
        await self._send_text()
        await self._client.send({"type": "flush", "request_id": self.request_id})

    async def end(self) -> None:
        """No more text will come."""
        await self._send_text()
        await self._client.send({"type": "end", "request_id": self.request_id})

    async def cancel(self, played_ms: float | None = None) -> None:
        """Asks for the end; its `audio_end` tells when it is reached."""
        self._unsent = ""
        played = {} if played_ms is None else {"played_ms": played_ms}
        await self._client.send({"type": "cancel", "request_id": self.request_id, **played})

    async def audio(self) -> AsyncIterator[bytes]:
        """The sound alone."""
        async for arrived in self:
            if isinstance(arrived, Audio):
                yield arrived.payload

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Audio | Event:
        if self._over:
            raise StopAsyncIteration
        arrived = await self._arrived.get()
        if isinstance(arrived, ClientError):
            self._over = True
            raise arrived
        if isinstance(arrived, Event) and arrived.type == "audio_end":
            self._over = self._failure is None
            if self._failure is not None:
                self._arrived.put_nowait(self._failure)
        return arrived

    def take(self, arrived: Audio | Event | ClientError) -> bool:
        """For the client: something about it has come. True when it was the last."""
        if isinstance(arrived, Event):
            if arrived.type == "audio_start":
                self.stream_id = arrived.fields["stream_id"]
            elif arrived.type == "audio_end":
                self.audio_end = arrived.fields
            elif arrived.type == "error":
                return self._take_error(arrived)
        self._arrived.put_nowait(arrived)
        return self.audio_end is not None or isinstance(arrived, ClientError)

    def _take_error(self, error: Event) -> bool:
        if error.fields.get("accepted") is False:
            self._arrived.put_nowait(Refused(error.fields))
            return True
        if error.fields.get("accepted"):
            self._failure = Refused(error.fields)
        self._arrived.put_nowait(error)
        return False

    async def _gather(self) -> None:
        await asyncio.sleep(GATHER_S)
        # Who learns of a lost connection is whoever iterates.
        with contextlib.suppress(ConnectionLost):
            await self._send_text()

    async def _send_text(self) -> None:
        while text := self._unsent[:MAX_TEXT_CHARS]:
            self._unsent = self._unsent[MAX_TEXT_CHARS:]
            await self._client.send({"type": "text", "request_id": self.request_id, "text": text})
