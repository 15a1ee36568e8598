"""The way out: running utterances finish, new ones are refused, and a second signal ends the waiting."""

import asyncio
import json

import pytest
from websockets.exceptions import InvalidStatus

from tests.frontend.conftest import PATIENCE_S, running_server
from tests.frontend.fakes import FakeSpeech, Script, audio_of


async def test_a_running_and_a_waiting_utterance_finish_before_1001(speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(frames=4, hold_after=1))
    async with running_server(speech) as server, server.client() as client, server.client() as idle:
        await client.speak("Long.")
        await client.speak("Waiting.")
        await client.receive()
        await script.held.wait()
        server.drain.signal()
        await asyncio.sleep(0)
        status, body = await server.get("/readyz")
        assert (status, body["reason"]) == (503, "the server is shutting down")
        await client.speak("Too late.")
        refusal = json.loads(await client.receive())
        assert (refusal["code"], refusal["message"]) == ("TTS_NOT_READY", "the server is shutting down")
        script.go.set()
        await client.utterance()
        assert (await client.utterance())[0] == audio_of("Waiting.")
        assert await client.closed() == (1001, "the server is shutting down")
        assert await idle.closed() == (1001, "the server is shutting down")
        await asyncio.wait_for(server.serving, PATIENCE_S)


async def test_a_new_socket_is_refused_while_draining(speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(hold_after=1))
    async with running_server(speech) as server, server.client() as client:
        await client.speak("Long.")
        await script.held.wait()
        server.drain.signal()
        await asyncio.sleep(0)
        with pytest.raises(InvalidStatus, match="503"):
            await server.client().__aenter__()
        script.go.set()


async def test_what_does_not_finish_in_time_is_cancelled_and_told_so(speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(hold_after=1))
    async with running_server(speech, drain_s=0.2) as server, server.client() as client:
        await client.speak("Long.")
        await script.held.wait()
        server.drain.signal()
        assert json.loads((await client.utterance())[1])["cancelled"] is True
        assert (await client.closed())[0] == 1001
        assert speech.active == 0


async def test_a_second_signal_does_not_wait(speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(hold_after=1))
    async with running_server(speech, drain_s=60) as server, server.client() as client:
        await client.speak("Long.")
        await script.held.wait()
        server.drain.signal()
        server.drain.signal()
        assert json.loads((await client.utterance())[1])["cancelled"] is True
        assert (await client.closed())[0] == 1001
        assert speech.active == 0
        await asyncio.wait_for(server.serving, PATIENCE_S)
