"""What is over is gone at once: a search for garbage, which would hold up every stream, finds nothing of it."""

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial

import pytest

from frontend.compressed import CODECS
from frontend.encodings import make_file_encoder
from tests.frontend.conftest import PATIENCE_S, RunningServer, running_server
from tests.frontend.garbage import no_garbage
from tests.frontend.triton_double import Stream, TritonDouble, speech_from
from tests.frontend.v2 import v2_client

FRAME = bytes(3840)
UTTERANCES = 3
# Ours, calls of the model, and codecs, which have threads.
SEARCHED = ("frontend.", "grpc.aio.", "av.")


class Scene:
    """A frontend before a double of Triton, whose utterances speak twice and then end or wait for their cancel."""

    def __init__(self, server: RunningServer, double: TritonDouble) -> None:
        self.server = server
        self._double = double
        double.behaviour = self._speak
        self.ends = True

    async def _speak(self, stream: Stream) -> None:
        await stream.send(FRAME)
        await stream.send(FRAME)
        if not self.ends:
            await asyncio.Event().wait()
        await stream.send(b"", {"reason": "complete", "frames": 2})

    async def left(self) -> None:
        """The model has been told of one more utterance that nobody listens to it any more."""
        async with asyncio.timeout(PATIENCE_S):
            await self._double.left.get()


# A way to speak to the frontend, again and again.
Door = Callable[[Scene], AbstractAsyncContextManager[Callable[[], Awaitable[None]]]]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    double = TritonDouble()
    patience = {"describe_timeout_s": PATIENCE_S, "accept_s": PATIENCE_S, "probe_s": 60.0, "stall_s": 60.0}
    async with speech_from(double, **patience) as speech, running_server(speech) as server:
        yield Scene(server, double)


@asynccontextmanager
async def v1(scene: Scene) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Speaks once on a v1 socket, and cancels what does not end by itself."""

    async def speak() -> None:
        await client.speak("Hello.")
        if not scene.ends:
            assert isinstance(await client.receive(), bytes)
            await client.send(type="cancel")
        assert "audio_end" in (await client.utterance())[1]

    async with scene.server.client() as client:
        yield speak


@asynccontextmanager
async def v2(scene: Scene, whole: bool = True) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Speaks once on a v2 socket, and cancels what does not end by itself."""
    names = map(str, itertools.count())

    async def speak() -> None:
        name = next(names)
        await client.speak("Hello.", name, **({} if whole else {"final": False}))
        if not scene.ends:
            await client.audio()
            await client.send(type="cancel", request_id=name)
        await client.ended(name)

    async with v2_client(scene.server) as client:
        yield speak


def v2_live(scene: Scene) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
    """As v2, with text that would go on."""
    return v2(scene, whole=False)


@asynccontextmanager
async def http(scene: Scene, response_format: str = "pcm") -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Speaks once by HTTP, on a connection of its own, and leaves what does not end by itself."""
    body = json.dumps({"input": "Hello.", "response_format": response_format}).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {scene.server.address}\r\nContent-Type: application/json\r\n"
    asked = f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def speak() -> None:
        reader, writer = await asyncio.open_connection(*scene.server.address.split(":"))
        writer.write(asked)
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1)
            if scene.ends:
                await reader.read()
        assert head.startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()

    yield speak


def http_file(name: str) -> Door:
    """As http, with a file that needs a codec."""
    return partial(http, response_format=name)


FILES = [pytest.param(http_file(name), id=f"http-{name}") for name in CODECS]


@pytest.mark.parametrize("door", [v1, v2, http, *FILES])
async def test_an_utterance_that_came_to_its_end_is_no_garbage(door: Door, scene: Scene) -> None:
    async with door(scene) as speak:
        await speak()
        async with no_garbage(*SEARCHED):
            for _ in range(UTTERANCES):
                await speak()


@pytest.mark.parametrize("door", [v1, v2, v2_live, http, *FILES])
async def test_a_cancelled_utterance_is_no_garbage(door: Door, scene: Scene) -> None:
    scene.ends = False
    async with door(scene) as speak:
        await speak()
        await scene.left()
        async with no_garbage(*SEARCHED):
            for _ in range(UTTERANCES):
                await speak()
                await scene.left()


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", CODECS)
async def test_a_closed_encoder_keeps_no_thread(name: str, finished: bool) -> None:
    async with no_garbage(*SEARCHED):
        before = set(os.listdir("/proc/self/task"))
        with closing(make_file_encoder(name)) as encoder:
            encoder.start()
            encoder.push(FRAME * 10)
            if finished:
                encoder.finish()
        del encoder
        assert set(os.listdir("/proc/self/task")) <= before
