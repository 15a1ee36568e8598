"""What a cancel does in every state of a v2 request, and what it does not."""

import asyncio

import pytest

from frontend.errors import InferenceFailed
from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import FakeSpeech, Script, audio_of
from tests.frontend.v2 import begun, v2_client


@pytest.mark.parametrize("ids", [{}, {"request_id": "u1"}])
@pytest.mark.parametrize("frames", [0, 1, 5])
async def test_a_cancel_while_it_is_spoken_frees_the_slot_before_it_is_answered(
    server: RunningServer, speech: FakeSpeech, ids: dict[str, str], frames: int
) -> None:
    script = speech.script("Long.", Script(frames=50, hold_after=frames))
    async with v2_client(server) as client:
        await client.speak("Long.", "u1")
        for _ in range(frames):
            await client.audio()
        await script.held.wait()
        await client.send(type="cancel", **ids)
        heard = await client.ended("u1")
        assert speech.active == 0
        assert (heard.terminal["reason"], heard.terminal["cancelled"]) == ("cancelled", True)
        assert heard.terminal["samples"] == frames * 1920
        assert (heard.terminal["ttfa_ms"] is None) == (frames == 0)


async def test_a_waiting_request_is_cancelled_alone(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        script = await begun(client, speech)
        await client.speak("Two.", "u2")
        await client.speak("Three.", "u3")
        await client.send(type="cancel", request_id="u2")
        heard = await client.ended("u2")
        assert heard.types == ["queued", "audio_end"]
        assert heard.terminal["samples"] == 0
        assert speech.active == 1
        script.go.set()
        assert (await client.ended("u3")).audio == audio_of("Three.")
        assert client.requests["u1"].terminal["reason"] == "complete"
        assert [request.text for request in speech.requests] == ["Long.", "Three."]


@pytest.mark.parametrize("text", ["", "Hello"])
@pytest.mark.parametrize("last", [None, "flush", "end"])
async def test_live_text_is_cancelled_while_it_waits_and_after_its_end(
    server: RunningServer, speech: FakeSpeech, text: str, last: str | None
) -> None:
    script = speech.script(text, Script(hold_after=2))
    async with v2_client(server) as client:
        await client.speak(text, "u1", final=False)
        if text:
            await script.held.wait()
        if last is not None and text:
            await client.send(type=last, request_id="u1")
        await client.send(type="ping")
        await client.until("pong")
        await client.send(type="cancel", request_id="u1")
        assert (await client.ended("u1")).terminal["reason"] == "cancelled"
        assert speech.active == 0


async def test_cancelling_what_is_not_there_says_nothing(server: RunningServer) -> None:
    async with v2_client(server) as client:
        await client.send(type="cancel")
        await client.send(type="cancel", request_id="nobody")
        await client.speak("Hello.", "u1")
        await client.ended("u1")
        await client.send(type="cancel", request_id="u1")
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}


async def test_what_was_heard_is_what_the_cancel_said_that_ended_it(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        await client.send(type="cancel", request_id="u1", played_ms=50)
        await client.send(type="cancel")
        assert (await client.ended("u1")).terminal["spoken_text"] == "Long."


async def test_a_cancel_tells_what_was_heard_when_it_is_asked(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        await client.speak("Two.", "u2")
        await client.send(type="cancel", played_ms=50)
        assert (await client.ended("u1")).terminal["spoken_text"] == "Long."
        assert (await client.ended("u2")).terminal["spoken_text"] == ""


async def test_a_cancel_takes_back_what_was_not_written(server: RunningServer, speech: FakeSpeech) -> None:
    # Paced: of 160 s of speech that are made at once only 10 s are sent.
    speech.script("Long.", Script(frames=2000))
    async with v2_client(server) as client:
        await client.speak("Long.", "u1")
        await client.audio()
        await client.send(type="cancel")
        heard = await client.ended("u1")
        assert heard.terminal["samples"] <= 10.1 * 24000
        assert speech.active == 0


async def test_a_cancel_during_a_failure_is_still_one_terminal(server: RunningServer, speech: FakeSpeech) -> None:
    for number in range(20):
        name = f"u{number}"
        speech.script(name, Script(frames=2, error=InferenceFailed("bad")))
        async with v2_client(server) as client:
            await client.speak(name, name)
            await asyncio.sleep(number * 0.0005)
            await client.send(type="cancel")
            heard = await client.ended(name)
            assert heard.terminal["reason"] in ("failed", "cancelled")
            await client.send(type="stop")
            assert await client.closed() == (1000, "")
