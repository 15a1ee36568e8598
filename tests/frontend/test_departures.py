"""When a client has left, its connection goes at once: it waits neither for one more request nor for a search."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import audio_of
from tests.frontend.garbage import no_garbage
from tests.frontend.http_client import ask

# Far below the 20 s from ping to ping and the 75 s in which one more request may come.
AT_ONCE_S = 5.0


async def asks_nothing(server: RunningServer) -> None:
    host, port = server.address.rsplit(":", 1)
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()


async def hears_a_body(server: RunningServer) -> None:
    assert (await ask(server, input="Hello.", response_format="pcm")).body == audio_of("Hello.")


async def makes_a_mistake(server: RunningServer) -> None:
    assert (await ask(server, input=" ")).status == 400


async def speaks_and_closes(server: RunningServer) -> None:
    async with server.client() as client:
        await client.speak("Hello.")
        assert (await client.utterance())[0] == audio_of("Hello.")


async def talks_nonsense(server: RunningServer) -> None:
    async with server.client() as client:
        await client.connection.send("nonsense")
        assert "INVALID_MESSAGE" in str(await client.receive())


async def speaks_and_vanishes(server: RunningServer) -> None:
    async with server.client() as client:
        await client.speak("Hello.")
        await client.receive()
        client.connection.transport.abort()


Visit = Callable[[RunningServer], Awaitable[None]]


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No task that was begun within the block outlives it for long."""
    before = asyncio.all_tasks()
    yield
    if begun := asyncio.all_tasks() - before:
        _, lasting = await asyncio.wait(begun, timeout=AT_ONCE_S)
        assert [task.get_coro() for task in lasting] == []


VISITS = [asks_nothing, hears_a_body, makes_a_mistake, speaks_and_closes, talks_nonsense, speaks_and_vanishes]


@pytest.mark.parametrize("visit", VISITS)
async def test_a_connection_ends_with_its_client(visit: Visit, server: RunningServer) -> None:
    await hears_a_body(server)  # the server has begun whatever it does beside its connections
    async with nothing_left():
        for _ in range(3):
            await visit(server)


@pytest.mark.parametrize("visit", VISITS)
async def test_a_connection_that_is_over_is_no_garbage(visit: Visit, server: RunningServer) -> None:
    await hears_a_body(server)
    async with no_garbage("frontend.", "hypercorn.", "quart.", "h11.", "wsproto."), nothing_left():
        for _ in range(3):
            await visit(server)
