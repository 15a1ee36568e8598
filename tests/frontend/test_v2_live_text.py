"""Text that comes to a v2 request piece by piece: appended, flushed, ended, refused, or staying away."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from frontend.errors import UnknownVoice
from frontend.synthesis import Chunk, SpeechRequest
from tests.frontend.conftest import PATIENCE_S, RunningServer, running_server
from tests.frontend.fakes import FakeSpeech, Script, live_audio_of
from tests.frontend.v2 import V2Client, audio_end, timeless, v2_client


@pytest.fixture
async def client(server: RunningServer) -> Any:
    async with v2_client(server) as connected:
        yield connected


async def test_text_is_appended_as_it_comes_and_ended(client: V2Client, speech: FakeSpeech) -> None:
    await client.speak("Hel", "u1", final=False)
    await client.audio()
    await client.send(type="text", request_id="u1", text="lo ")
    await client.send(type="text", request_id="u1", text="you.")
    await client.send(type="end", request_id="u1")
    heard = await client.ended("u1")
    assert heard.audio == live_audio_of("Hello you.")
    assert timeless(heard.terminal) == audio_end("u1", 10 * 1920, chars=10)
    assert [request.text for request in speech.requests] == ["Hel"]
    for late in ({"type": "text", "text": "x"}, {"type": "flush"}, {"type": "end"}):
        await client.send(request_id="u1", **late)
        assert (await client.until("error"))["code"] == "UNKNOWN_REQUEST"


async def test_a_flush_speaks_to_the_end_and_the_request_goes_on(client: V2Client, speech: FakeSpeech) -> None:
    await client.speak("One. ", "u1", final=False)
    await client.send(type="flush", request_id="u1")
    assert await client.until("flushed") == {"type": "flushed", "request_id": "u1", "flush_id": 1, "sample_end": 9600}
    await client.send(type="flush", request_id="u1")
    assert (await client.until("flushed"))["sample_end"] == 9600
    await client.send(type="text", request_id="u1", text=" Two.")
    await client.send(type="end", request_id="u1")
    heard = await client.ended("u1")
    assert heard.audio == live_audio_of("One. ") + live_audio_of(" Two.")
    marks = [(mark["text"], mark["char_start"], mark["sample_start"]) for mark in heard.of_type("mark")]
    assert marks == [("One.", 0, 0), ("Two.", 6, 9600)]
    assert [request.text for request in speech.requests] == ["One. ", " Two."]


async def test_no_word_is_lost_however_fast_a_model_writes(speech: FakeSpeech) -> None:
    async with running_server(speech, message_burst=1, message_rate_per_s=0.001) as server, v2_client(server) as client:
        await client.speak("", "u1", final=False)
        words = [f"{number} " for number in range(400)]
        for word in words:
            await client.send(type="text", request_id="u1", text=word)
        await client.send(type="end", request_id="u1")
        heard = await client.ended("u1")
        assert "error" not in heard.types
        assert (heard.terminal["reason"], heard.terminal["chars"]) == ("complete", len("".join(words)))


@pytest.mark.parametrize("text", ["", " \n"])
async def test_live_text_that_never_came_is_complete_and_silent(client: V2Client, text: str) -> None:
    await client.speak(text, "u1", final=False)
    await client.send(type="end", request_id="u1")
    end = (await client.ended("u1")).terminal
    assert timeless(end) == audio_end("u1", 0, ttfa_ms=None, chars=len(text))
    assert client.requests["u1"].types == ["audio_end"]


class LateRefusal(FakeSpeech):
    """Takes some of the text that follows before it says that it does not know the voice, as a model may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def speak(
        self, request: SpeechRequest, more: AsyncIterator[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        if request.voice == "nobody" and more is not None:
            self.requests.append(request)
            self.asked.set()
            await anext(more)
            raise UnknownVoice("no voice 'nobody'")
        async with aclosing(super().speak(request, more)) as chunks:
            async for chunk in chunks:
                yield chunk


async def test_text_that_went_to_a_voice_nobody_has_is_said_by_the_default_one() -> None:
    speech = LateRefusal()
    async with running_server(speech) as server, v2_client(server) as client:
        await client.speak("Hel", "u1", voice="nobody", final=False)
        await asyncio.wait_for(speech.asked.wait(), PATIENCE_S)
        await client.send(type="text", request_id="u1", text="lo ")
        await client.until("warning")
        await client.send(type="text", request_id="u1", text="you.")
        await client.send(type="end", request_id="u1")
        heard = await client.ended("u1")
        assert heard.audio == live_audio_of("Hello you.")
        assert [(mark["char_start"], mark["char_end"]) for mark in heard.of_type("mark")] == [(0, len("Hello"))]
        assert [request.text for request in speech.requests] == ["Hel", "Hello "]


async def test_appends_have_limits_of_their_own_and_the_request_goes_on(
    speech: FakeSpeech, server: RunningServer
) -> None:
    async with v2_client(server) as client:
        await client.speak("a<|im", "u1", final=False)
        await client.send(type="text", request_id="u1", text="_end|>")
        assert (await client.until("error"))["code"] == "INVALID_MESSAGE"
        await client.send(type="text", request_id="u1", text="x" * 5001)
        answer = await client.until("error")
        assert (answer["code"], answer["request_id"]) == ("TEXT_TOO_LONG", "u1")
        assert "accepted" not in answer
        for _ in range(4):
            await client.send(type="text", request_id="u1", text=" " * 4999)
        assert (await client.until("error"))["message"] == "the request would have 20001 characters, the limit is 20000"
        await client.send(type="cancel")
        assert (await client.ended("u1")).terminal["chars"] == 5 + 3 * 4999


async def test_text_that_stays_away_ends_with_timeout(speech: FakeSpeech, server: RunningServer) -> None:
    speech.script("Wait.", Script(info={"reason": "text_timeout"}))
    async with v2_client(server) as client:
        await client.speak("Wait.", "u1", final=False)
        await client.send(type="flush", request_id="u1")
        assert (await client.ended("u1")).terminal["reason"] == "timeout"


async def test_text_that_never_comes_ends_the_request(speech: FakeSpeech) -> None:
    async with running_server(speech, text_idle_s=0.1) as server, v2_client(server) as client:
        await client.speak("", "u1", final=False)
        terminal = (await client.ended("u1")).terminal
        assert (terminal["reason"], terminal["cancelled"]) == ("timeout", False)
