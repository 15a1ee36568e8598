"""What a v2 session is from its start to its end: settled anew, stopped, drained, and leaving nothing."""

import asyncio

import pytest

from tests.frontend.conftest import RunningServer, running_server
from tests.frontend.fakes import FakeSpeech, Script, audio_of, live_audio_of
from tests.frontend.v2 import TAGGED, begun, v2_client


async def test_start_may_change_everything_while_nothing_is_asked_for(
    server: RunningServer, speech: FakeSpeech
) -> None:
    async with v2_client(server, voice="ryan") as client:
        script = await begun(client, speech)
        await client.send(type="start", protocol=2)
        assert (await client.until("error"))["message"] == "`start` may come only while there is no request"
        script.go.set()
        assert (await client.ended("u1")).audio == audio_of("Long.", "ryan", 50)
        await client.send(type="start", protocol=2)
        assert (await client.until("ready"))["voice"] == "makima"


async def test_stop_gives_every_request_its_terminal_and_closes_1000(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        await client.speak("Two.", "u2")
        await client.send(type="stop")
        assert await client.closed() == (1000, "")
        assert [client.requests[name].terminal["reason"] for name in ("u1", "u2")] == ["cancelled"] * 2
    await server.all_closed()
    assert speech.active == 0


async def test_what_is_said_behind_a_stop_is_not_answered(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        await client.send(type="stop")
        await client.speak("Two.", "u2")
        assert await client.closed() == (1000, "")
        assert "u2" not in client.requests


async def test_stop_with_drain_speaks_to_the_end_and_takes_nothing_new(
    server: RunningServer, speech: FakeSpeech
) -> None:
    async with v2_client(server) as client:
        script = await begun(client, speech)
        await client.speak("Two", "u2", final=False)
        await client.send(type="stop", drain=True)
        await client.speak("Three.", "u3")
        assert (await client.ended("u3")).terminal["code"] == "TTS_NOT_READY"
        await client.send(type="text", request_id="u2", text=".")
        await client.send(type="end", request_id="u2")
        script.go.set()
        assert await client.closed() == (1000, "")
        assert client.requests["u2"].audio == live_audio_of("Two.")


async def test_a_shutdown_is_told_finishes_what_runs_and_closes_1001(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        script = await begun(client, speech)
        server.drain.signal()
        assert await client.until("draining") == {"type": "draining", "deadline_ms": 20000}
        await client.speak("Two.", "u2")
        assert (await client.ended("u2")).terminal["code"] == "TTS_NOT_READY"
        script.go.set()
        assert (await client.ended("u1")).audio == audio_of("Long.", frames=50)
        assert await client.closed() == (1001, "the server is shutting down")


async def test_what_a_shutdown_cannot_wait_for_is_ended_as_draining(speech: FakeSpeech) -> None:
    async with running_server(speech, drain_s=0.1) as server, v2_client(server) as client:
        await begun(client, speech)
        server.drain.signal()
        terminal = (await client.ended("u1")).terminal
        assert (terminal["reason"], terminal["cancelled"]) == ("draining", True)
        assert (await client.closed())[0] == 1001


@pytest.mark.parametrize("ending", ["stop", "abort", "close"])
@pytest.mark.parametrize("state", ["idle", "speaking", "queued", "live", "silent", "concurrent"])
async def test_no_task_and_no_slot_is_left_however_a_socket_ends(
    server: RunningServer, speech: FakeSpeech, ending: str, state: str
) -> None:
    await server.get("/healthz")
    before = asyncio.all_tasks()
    speech.script("Live", Script(hold_after=2))
    async with v2_client(server, format=TAGGED) as client:
        if state != "idle":
            await begun(client, speech)
        if state in ("queued", "live", "silent"):
            await client.speak({"queued": "Next.", "live": "Live", "silent": ""}[state], "u2", final=state == "queued")
        if state == "concurrent":
            await begun(client, speech, "Other.", "u3", mode="concurrent")
        if ending == "stop":
            await client.send(type="stop")
            await client.closed()
        elif ending == "abort":
            client.connection.transport.abort()
    await server.all_closed()
    ours = [task for task in asyncio.all_tasks() - before if "frontend" in str(task.get_coro().cr_code.co_filename)]
    assert ours == []
    assert speech.active == 0


async def test_the_text_is_never_logged(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with v2_client(server) as client:
        await client.speak("Secret.", "u1")
        await client.ended("u1")
        await client.send(type="stop")
        await client.closed()
    assert "Secret" not in caplog.text
    line = next(record.getMessage() for record in caplog.records if "request=" in record.getMessage())
    for fact in ('request="u1"', 'format="pcm_s16le/24000"', 'mode="queue"', "chars=7", 'reason="complete"'):
        assert fact in line
