"""What a v2 socket is closed for, with which code, and what it is told before."""

import asyncio

from tests.frontend.conftest import PATIENCE_S, RunningServer, running_server
from tests.frontend.fakes import FakeSpeech, Script
from tests.frontend.v2 import begun, v2_client


async def test_ten_invalid_messages_in_a_row_close_with_1008(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        for _ in range(9):
            await client.connection.send("{")
        await client.send(type="ping")
        for _ in range(10):
            await client.connection.send(b"\x00")
        assert await client.closed() == (1008, "10 invalid messages in a row")
        recoverable = [error["recoverable"] for error in client.others if error["type"] == "error"]
        assert recoverable == [True] * 18 + [False]
        assert client.requests["u1"].terminal["reason"] == "cancelled"


async def test_a_flood_is_told_and_closed_with_1008(speech: FakeSpeech) -> None:
    async with running_server(speech, flood_rate_per_s=20) as server, v2_client(server) as client:
        for _ in range(25):
            await client.send(type="ping")
        assert await client.closed() == (1008, "more than 20 messages per second")
        errors = [message for message in client.others if message["type"] == "error"]
        assert [(error["code"], error["recoverable"]) for error in errors] == [("TOO_MANY_REQUESTS", False)]


async def test_messages_beyond_the_rate_are_refused_but_not_cancel_and_ping(speech: FakeSpeech) -> None:
    async with running_server(speech, message_burst=2, message_rate_per_s=0.5) as server, v2_client(server) as client:
        await begun(client, speech)
        await client.speak("Two.", "u2", final=False)
        await client.send(type="flush", request_id="u2")
        error = await client.until("error")
        assert (error["code"], error["request_id"], "accepted" in error) == ("TOO_MANY_REQUESTS", "u2", False)
        assert 1000 < error["retry_after_ms"] <= 2000
        await client.speak("Three.", "u3")
        assert (await client.ended("u3")).terminal["accepted"] is False
        await client.send(type="ping")
        await client.until("pong")
        await client.send(type="cancel")
        await client.ended("u1")


async def test_an_idle_socket_is_told_and_closed_with_4408(speech: FakeSpeech) -> None:
    async with running_server(speech, idle_timeout_s=0.2) as server, v2_client(server) as client:
        assert await client.closed() == (4408, "idle for 0.2 s")
        assert client.others[-1]["code"] == "IDLE_TIMEOUT"


async def test_a_socket_is_idle_from_the_end_of_what_was_spoken_on_it(speech: FakeSpeech) -> None:
    loop, freed_at = asyncio.get_running_loop(), 0.0

    def free() -> None:
        nonlocal freed_at
        freed_at = loop.time()
        script.go.set()

    async with running_server(speech, idle_timeout_s=0.5) as server, v2_client(server) as client:
        script = await begun(client, speech)
        loop.call_later(0.7, free)  # between two looks at whether it is idle
        await client.ended("u1")
        assert await client.closed() == (4408, "idle for 0.5 s")
        assert loop.time() - freed_at >= 0.5


async def test_an_old_session_is_told_and_closed_with_4409(speech: FakeSpeech) -> None:
    async with running_server(speech, max_session_s=1) as server, v2_client(server) as client:
        await begun(client, speech)
        assert await client.closed() == (4409, "the session is older than 1 s")
        assert client.requests["u1"].terminal["reason"] == "cancelled"


async def test_a_client_that_does_not_read_is_closed_with_1013(speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=4000))
    settings = {"send_timeout_s": 0.3, "max_audio_s": 1000, "max_ahead_s": 1000}
    async with running_server(speech, **settings) as server, v2_client(server) as client:
        client.connection.transport.pause_reading()
        await client.speak("Long.", "u1")
        await asyncio.wait_for(speech.released.wait(), PATIENCE_S)
        assert speech.frames_made < 3900
        client.connection.transport.resume_reading()
        assert await client.closed() == (1013, "slow consumer: a send took longer than 0.3 s")
