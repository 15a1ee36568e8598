"""When a client has left, its connection goes at once: no file, task or memory waits for a request that cannot come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import audio_of
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


async def speaks_and_vanishes(server: RunningServer) -> None:
    async with server.client() as client:
        await client.speak("Hello.")
        await client.receive()
        client.connection.transport.abort()


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No task that was begun within the block outlives it for long."""
    before = asyncio.all_tasks()
    yield
    if begun := asyncio.all_tasks() - before:
        _, lasting = await asyncio.wait(begun, timeout=AT_ONCE_S)
        assert [task.get_coro() for task in lasting] == []


@pytest.mark.parametrize("visit", [asks_nothing, hears_a_body, makes_a_mistake, speaks_and_closes, speaks_and_vanishes])
async def test_a_connection_ends_with_its_client(
    visit: Callable[[RunningServer], Awaitable[None]], server: RunningServer
) -> None:
    await hears_a_body(server)  # the server has begun whatever it does beside its connections
    async with nothing_left():
        for _ in range(3):
            await visit(server)
