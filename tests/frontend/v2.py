"""A protocol v2 client for tests: sends objects, sorts what comes by request, and checks every rule of the wire."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from frontend.framing import read_tagged
from tests.frontend.conftest import PATIENCE_S, RunningServer
from tests.frontend.fakes import FakeSpeech, Script

BYTES = {"pcm_s16le": 2, "wav": 2, "mulaw": 1, "alaw": 1}
TAGGED = {"encoding": "pcm_s16le", "framing": "tagged"}
TIMES = ("ttfa_ms", "generation_ms", "queue_ms", "rtf")


@dataclass
class Heard:
    """All that came about one request, in order; binary frames as their payloads."""

    events: list[dict[str, Any] | bytes] = field(default_factory=list)
    stream_id: int | None = None
    encoding: str = ""
    open: bool = False
    last_frame: bool = False
    terminal: dict[str, Any] | None = None
    samples: int = 0

    @property
    def audio(self) -> bytes:
        return b"".join(event for event in self.events if isinstance(event, bytes))

    @property
    def types(self) -> list[str]:
        """The kinds of events; a run of audio is one."""
        kinds: list[str] = []
        for event in self.events:
            kind = "audio" if isinstance(event, bytes) else event["type"]
            if kind != "audio" or kinds[-1:] != ["audio"]:
                kinds.append(kind)
        return kinds

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if isinstance(event, dict) and event["type"] == kind]


class Listener:
    """Takes frames as they come and fails as soon as one breaks a guarantee."""

    def __init__(self, tagged: bool = False) -> None:
        self.tagged = tagged
        self.requests: dict[str, Heard] = {}
        self.others: list[dict[str, Any]] = []
        self._ending: Heard | None = None

    def take(self, frame: str | bytes) -> dict[str, Any] | bytes:
        if isinstance(frame, bytes):
            assert self._ending is None, "audio between the last frame of a stream and its audio_end"
            self._take_audio(frame)
            return frame
        message = json.loads(frame)
        request_id = message.get("request_id")
        if self._ending is not None:
            assert message["type"] == "audio_end"
            assert self.requests[request_id] is self._ending
            self._ending = None
        if request_id is None:
            self.others.append(message)
        else:
            self._take_event(self.requests.setdefault(request_id, Heard()), message)
        return message

    def _take_event(self, heard: Heard, message: dict[str, Any]) -> None:
        kind = message["type"]
        refused = kind == "error" and message.get("accepted") is False
        if heard.terminal is not None:
            # What a client does to an ended request is answered with an error, which is no news of the request.
            assert kind == "error", f"{kind} behind the terminal"
            assert not message.get("accepted")
            self.others.append(message)
            return
        if kind == "error" and message["code"] in ("DUPLICATE_REQUEST", "UNKNOWN_REQUEST"):
            self.others.append(message)
            return
        heard.events.append(message)
        if kind == "audio_start":
            assert not heard.open
            assert self.tagged or not any(other.open for other in self.requests.values()), "two streams at once"
            heard.open, heard.stream_id, heard.encoding = True, message["stream_id"], message["format"]
        if kind == "audio_end" or refused:
            assert not (refused and heard.open)
            if heard.open and self.tagged:
                assert heard.last_frame
            heard.open, heard.terminal = False, message
        if kind == "audio_end":
            assert message["cancelled"] == (message["reason"] in ("cancelled", "preempted", "draining"))
            if heard.encoding in BYTES:
                assert message["samples"] == heard.samples

    def _take_audio(self, frame: bytes) -> None:
        if self.tagged:
            tagged = read_tagged(frame)
            heard = next(one for one in self.requests.values() if one.open and one.stream_id == tagged.stream_id)
            if heard.encoding in BYTES:
                assert tagged.sample_offset == heard.samples
            payload = tagged.payload
            assert tagged.last == (not payload)
            if tagged.last:
                heard.last_frame, self._ending = True, heard
                return
        else:
            heard = next(one for one in self.requests.values() if one.open)
            payload = frame
        heard.events.append(payload)
        if payload[:4] == b"RIFF":
            return
        if heard.encoding in BYTES:
            assert len(payload) % BYTES[heard.encoding] == 0, "half a sample"
            heard.samples += len(payload) // BYTES[heard.encoding]


class V2Client(Listener):
    """One socket."""

    def __init__(self, connection: ClientConnection, tagged: bool = False) -> None:
        super().__init__(tagged)
        self.connection = connection

    async def send(self, **message: object) -> None:
        await self.connection.send(json.dumps(message))

    async def speak(self, text: str, request_id: str | None = None, **fields: object) -> None:
        names = {} if request_id is None else {"request_id": request_id}
        await self.send(type="speak", text=text, **names, **fields)

    async def receive(self) -> dict[str, Any] | bytes:
        return self.take(await asyncio.wait_for(self.connection.recv(), PATIENCE_S))

    async def until(self, kind: str, request_id: str | None = None) -> dict[str, Any]:
        """The next message of a type, and of a request."""
        while True:
            message = await self.receive()
            if (
                isinstance(message, dict)
                and message["type"] == kind
                and request_id in (None, message.get("request_id"))
            ):
                return message

    async def audio(self) -> None:
        """Returns when a binary frame came."""
        while not isinstance(await self.receive(), bytes):
            pass

    async def ended(self, request_id: str) -> Heard:
        """All about a request, when it has ended."""
        while request_id not in self.requests or self.requests[request_id].terminal is None:
            await self.receive()
        return self.requests[request_id]

    async def closed(self) -> tuple[int | None, str]:
        """Close code and reason; what came before is sorted."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed:
            return self.connection.close_code, self.connection.close_reason or ""


@asynccontextmanager
async def v2_client(server: RunningServer, **start: Any) -> AsyncIterator[V2Client]:
    """A client that asked for v2 by subprotocol and, given fields, by a start."""
    url = f"ws://{server.address}/api/v1/speak"
    async with connect(url, compression=None, max_size=None, subprotocols=[Subprotocol("speak.v2")]) as connection:
        client = V2Client(connection, start.get("format", {}).get("framing") == "tagged")
        await client.until("ready")
        if start:
            await client.send(type="start", protocol=2, **start)
            await client.until("ready")
        yield client


async def begun(
    client: V2Client, speech: FakeSpeech, text: str = "Long.", name: str = "u1", **fields: object
) -> Script:
    """A request that has sent one frame and makes no more until `go`."""
    script = speech.script(text, Script(frames=50, hold_after=1))
    await client.speak(text, name, **fields)
    await client.audio()
    await script.held.wait()
    return script


def timeless(event: Any) -> Any:
    """An event with figures that differ from run to run set to 0, once they are known to be figures."""
    if not isinstance(event, dict):
        return len(event)
    for name in TIMES:
        assert event.get(name) is None or event[name] >= 0
    return {name: 0 if name in TIMES and value is not None else value for name, value in event.items()}


def audio_end(request_id: str, samples: int, **changes: Any) -> dict[str, Any]:
    return {
        "type": "audio_end",
        "request_id": request_id,
        "sample_rate": 24000,
        "format": "pcm_s16le",
        "channels": 1,
        "cancelled": False,
        "reason": "complete",
        "samples": samples,
        "duration_ms": samples // 24,
        "ttfa_ms": 0,
        "generation_ms": 0,
        "chars": 6,
        "tokens": samples // 1920,
    } | changes
