"""A real Hypercorn on a real loopback port for every test that wants one, and a gRPC server that speaks as Triton."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from frontend.app import create_app
from frontend.registry import SessionRegistry
from frontend.server import Drain, open_listener, serve
from frontend.settings import Settings
from frontend.triton import TritonSpeech
from tests.frontend.fakes import FakeSpeech
from tests.frontend.triton_double import LIMITS, TritonDouble, speech_from

PATIENCE_S = 30.0


@dataclass
class RunningServer:
    """What a test needs of a server: its fake, its address, its way out."""

    speech: FakeSpeech
    registry: SessionRegistry
    drain: Drain
    address: str
    serving: asyncio.Task[None]

    @asynccontextmanager
    async def client(self, path: str = "/api/v1/speak") -> AsyncIterator["Client"]:
        async with connect(f"ws://{self.address}{path}", compression=None, max_size=None) as connection:
            yield Client(connection)

    async def get(self, path: str) -> tuple[int, dict]:
        """Status and JSON body of an HTTP GET."""
        host, port = self.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    async def all_closed(self) -> None:
        """Returns when the server has no session left."""
        async with asyncio.timeout(PATIENCE_S):
            await self.registry.all_closed()


class Client:
    """A v1 client: sends objects, collects frames."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **message: object) -> None:
        await self.connection.send(json.dumps(message))

    async def speak(self, text: str, **fields: object) -> None:
        await self.send(type="speak", text=text, **fields)

    async def receive(self) -> str | bytes:
        return await asyncio.wait_for(self.connection.recv(), PATIENCE_S)

    async def utterance(self) -> tuple[bytes, str]:
        """The audio up to the next text frame, and that frame."""
        audio = b""
        while isinstance(frame := await self.receive(), bytes):
            audio += frame
        return audio, frame

    async def closed(self) -> tuple[int | None, str]:
        """Close code and reason, once the server has closed; frames before it are dropped."""
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    await self.connection.recv()
        return self.connection.close_code, self.connection.close_reason or ""


@asynccontextmanager
async def running_server(speech: FakeSpeech, **settings: object) -> AsyncIterator[RunningServer]:
    chosen = Settings(**({"host": "127.0.0.1", "port": 0} | settings))
    listener = open_listener(chosen.host, chosen.port)
    host, port = listener.getsockname()
    registry = SessionRegistry()
    drain = Drain(registry, chosen.drain_s)
    serving = asyncio.create_task(serve(create_app(chosen, speech, registry), chosen, listener, drain))
    server = RunningServer(speech, registry, drain, f"{host}:{port}", serving)
    try:
        yield server
    finally:
        drain.signal()
        drain.signal()
        await serving


@pytest.fixture
def speech() -> FakeSpeech:
    return FakeSpeech()


@pytest.fixture
async def server(speech: FakeSpeech) -> AsyncIterator[RunningServer]:
    async with running_server(speech) as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with server.client() as connected:
        yield connected


@pytest.fixture
def double() -> TritonDouble:
    return TritonDouble()


@pytest.fixture
async def triton(double: TritonDouble) -> AsyncIterator[TritonSpeech]:
    async with speech_from(double, **LIMITS) as speech:
        yield speech
