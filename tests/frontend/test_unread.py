"""A client that has stopped to read is still heard: it can cancel, and leave."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.frontend.conftest import PATIENCE_S, Client, RunningServer, running_server
from tests.frontend.fakes import FakeSpeech, Script

PING = b"\x89\x80\0\0\0\0"
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
FRAMES = 4000  # 15 MB, far beyond every buffer between the two ends


@pytest.fixture
async def server(speech: FakeSpeech) -> AsyncIterator[RunningServer]:
    # Nobody is given up for reading slowly before the test is over.
    async with running_server(speech, send_timeout_s=10 * PATIENCE_S, max_audio_s=1000) as running:
        yield running


async def deafened(client: Client, speech: FakeSpeech) -> None:
    """Returns when no more sound goes out, since the client reads none."""
    speech.script("Long.", Script(frames=FRAMES))
    client.connection.transport.pause_reading()
    await client.speak("Long.")
    made = -1
    while made != speech.frames_made or not made:
        made = speech.frames_made
        await asyncio.sleep(0.2)
    assert made < FRAMES - 100
    assert speech.active == 1


async def test_one_who_closes_frees_the_slot(client: Client, server: RunningServer, speech: FakeSpeech) -> None:
    await deafened(client, speech)
    client.connection.transport.write(CLOSE)
    await asyncio.wait_for(speech.released.wait(), PATIENCE_S)
    assert speech.active == 0
    await server.all_closed()
    client.connection.transport.abort()


async def test_one_who_pings_can_cancel(client: Client, speech: FakeSpeech) -> None:
    await deafened(client, speech)
    client.connection.transport.write(PING * 3)
    await client.send(type="cancel")
    await asyncio.wait_for(speech.released.wait(), PATIENCE_S)
    assert speech.active == 0
    pong = await client.connection.ping()
    client.connection.transport.resume_reading()
    assert '"cancelled":true' in (await client.utterance())[1].replace(" ", "")
    await asyncio.wait_for(pong, PATIENCE_S)
