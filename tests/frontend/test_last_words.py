"""The last words of a connection arrive, also at a client who is still sending, and nothing is kept for him then."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from frontend.api_keys import Scope, entry, make_key
from tests.frontend.conftest import PATIENCE_S, RunningServer, running_server
from tests.frontend.fakes import FakeSpeech
from tests.frontend.test_departures import nothing_left

KEY = make_key()
KEYS = {"api_keys": entry("alice", Scope.SPEAK, KEY)}
POST = "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
KNOWN = f"Authorization: Bearer {KEY}\r\n"
# Far beyond every buffer between the two ends.
BODY_BYTES = 100_000_000
SENT = [b"x" * 65_536] * 200


async def opened(server: RunningServer, head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = server.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}\r\n".encode())
    return reader, writer


async def answer(reader: asyncio.StreamReader) -> tuple[int, str, dict]:
    """Status, head in small letters, and body."""
    async with asyncio.timeout(PATIENCE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return int(head.split()[1]), head, json.loads(await reader.readexactly(length))


@pytest.fixture
async def locked(speech: FakeSpeech) -> AsyncIterator[RunningServer]:
    async with running_server(speech, **KEYS) as server:
        await server.get("/healthz")  # it has begun whatever it does beside its connections
        yield server


@pytest.mark.parametrize(("who", "status"), [("", 401), (KNOWN, 413)], ids=["no key", "too big"])
async def test_a_client_that_sends_all_of_its_body_first_still_reads_why_it_was_refused(
    locked: RunningServer, who: str, status: int
) -> None:
    async with nothing_left():
        for _ in range(5):
            reader, writer = await opened(locked, f"{POST}{who}Content-Length: {BODY_BYTES}\r\n")
            for part in SENT:
                writer.write(part)
                await writer.drain()
            assert (await answer(reader))[0] == status
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            writer.close()


async def test_an_answer_before_the_body_says_that_the_connection_ends(locked: RunningServer) -> None:
    reader, writer = await opened(locked, f"{POST}Content-Length: 10\r\n")
    status, head, _ = await answer(reader)
    assert (status, "connection: close" in head) == (401, True)
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    writer.close()


async def test_an_answer_behind_the_body_leaves_the_connection_for_the_next_request(locked: RunningServer) -> None:
    reader, writer = await opened(locked, f"{POST}Content-Length: 2\r\n\r\n{{}}{POST}Content-Length: 0\r\n")
    for _ in range(2):
        status, head, _ = await answer(reader)
        assert (status, "connection: close" in head) == (401, False)
    writer.close()


async def test_one_who_neither_sends_nor_leaves_is_given_up(locked: RunningServer) -> None:
    reader, writer = await opened(locked, f"{POST}Content-Length: 10\r\n")
    async with nothing_left():
        _, silent = await opened(locked, f"{POST}Content-Length: 10\r\n")
    assert (await answer(reader))[0] == 401
    silent.close()
    writer.close()


async def flood(connection: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        for _ in range(3000):
            await connection.send("{")


async def test_who_floods_a_socket_is_told_the_code_it_was_closed_with_and_is_forgotten(server: RunningServer) -> None:
    url = f"ws://{server.address}/api/v1/speak"
    await server.get("/healthz")
    async with nothing_left():
        for _ in range(5):
            async with connect(url, subprotocols=[Subprotocol("speak.v2")], max_queue=None) as connection:
                flooding = asyncio.create_task(flood(connection))
                async with asyncio.timeout(PATIENCE_S):
                    with contextlib.suppress(ConnectionClosed):
                        while True:
                            await connection.recv()
                    await flooding
                assert connection.close_code == 1008
