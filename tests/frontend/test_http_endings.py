"""How POST /v1/audio/speech ends otherwise than well: failures, clients that leave, limits, shutdowns."""

import asyncio
import json

import pytest

from frontend import errors
from frontend.encodings import make_file_encoder
from frontend.http_utterance import EncodedSpeech, HttpUtterance
from frontend.metrics import Metrics
from frontend.registry import SessionRegistry
from frontend.synthesis import SpeechRequest
from tests.frontend.conftest import PATIENCE_S, RunningServer, running_server
from tests.frontend.fakes import CATALOGUE, FakeSpeech, Script, audio_of
from tests.frontend.http_client import ask, asking


@pytest.fixture
def speech() -> FakeSpeech:
    return FakeSpeech(description=CATALOGUE)


@pytest.mark.parametrize(
    ("failure", "status", "code", "retry_after"),
    [
        (errors.InvalidRequest("no"), 400, "invalid_value", None),
        (errors.Unsupported("no"), 400, "unsupported", None),
        (errors.UnknownVoice("no"), 404, "voice_not_found", None),
        (errors.TooManyRequests("no", 2_300), 429, "too_many_requests", "3"),
        (errors.Overloaded("no", 100), 503, "overloaded", "1"),
        (errors.NotReady("no"), 503, "tts_not_ready", "5"),
        (errors.Stalled("no"), 504, "tts_timeout", None),
        (errors.BackendDied("no"), 500, "tts_inference_failed", None),
    ],
)
@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_a_failure_before_the_first_sound_is_a_status(
    server: RunningServer,
    speech: FakeSpeech,
    failure: errors.SpeechError,
    status: int,
    code: str,
    retry_after: str | None,
    stream_format: str,
) -> None:
    speech.script("Bad.", Script(frames=0, error=failure))
    answer = await ask(server, input="Bad.", stream_format=stream_format)
    assert (answer.status, answer.error["code"], answer.error["message"]) == (status, code, "no")
    assert answer.headers.get("retry-after") == retry_after
    assert answer.headers["content-type"] == "application/json"


async def test_a_model_that_is_away_is_said_so(server: RunningServer, speech: FakeSpeech) -> None:
    await ask(server, input="Hi.")
    speech.description = errors.NotReady("gone")
    speech.described.clear()
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await ask(server, input="Hi.")).status == 200:
            await speech.described.wait()
    assert (answer.status, answer.error["code"], answer.error["type"]) == (503, "tts_not_ready", "server_error")


async def test_a_failure_amid_the_sound_breaks_the_body_off(server: RunningServer, speech: FakeSpeech) -> None:
    speech.script("Bad.", Script(frames=2, error=errors.BackendDied("gone")))
    answer = await ask(server, input="Bad.", response_format="pcm")
    assert (answer.status, answer.whole) == (200, False)
    assert audio_of("Bad.", frames=2).startswith(answer.body)


async def test_a_failure_amid_the_events_is_an_event(server: RunningServer, speech: FakeSpeech) -> None:
    speech.script("Bad.", Script(frames=2, error=errors.BackendDied("gone")))
    answer = await ask(server, input="Bad.", response_format="pcm", stream_format="sse")
    assert answer.whole
    assert [event["type"] for event in answer.events] == ["speech.audio.delta"] * 2 + ["speech.audio.error"]
    assert answer.events[-1]["error"]["code"] == "tts_inference_failed"


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
@pytest.mark.parametrize("frames_before", [0, 1])
async def test_a_client_that_leaves_frees_the_slot(
    server: RunningServer, speech: FakeSpeech, frames_before: int, stream_format: str
) -> None:
    script = speech.script("Left.", Script(frames=9, hold_after=frames_before))
    body = json.dumps({"input": "Left.", "response_format": "pcm", "stream_format": stream_format}).encode()
    async with asking(server, body):
        await script.held.wait()
        assert speech.active == 1
    async with asyncio.timeout(PATIENCE_S):
        await speech.released.wait()
    assert (speech.active, speech.frames_made) == (0, frames_before)
    await server.all_closed()


async def test_a_body_that_nobody_begins_to_read_is_ended_with_its_request(speech: FakeSpeech) -> None:
    registry = SessionRegistry()
    speech.script("Left.", Script(frames=9))

    async def answer() -> HttpUtterance:
        tally = Metrics().utterance("http")
        chunks = speech.speak(SpeechRequest("Left."))
        speaking = EncodedSpeech(chunks, make_file_encoder("pcm"), tally, max_audio_s=60)
        utterance = HttpUtterance(speaking.portions(), tally, {})
        await utterance.begin(registry)
        return utterance

    utterance = await asyncio.create_task(answer())
    async with asyncio.timeout(PATIENCE_S):
        await utterance.idle()
    assert (speech.active, len(registry)) == (0, 0)


async def test_no_utterance_is_longer_than_the_limit(speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=20))
    async with running_server(speech, max_audio_s=0.5) as server:
        answer = await ask(server, input="Long.", response_format="pcm")
    assert (answer.whole, answer.body) == (True, audio_of("Long.", frames=20)[:24_000])
    assert speech.active == 0


async def test_draining_finishes_what_runs_and_refuses_what_comes(speech: FakeSpeech) -> None:
    script = speech.script("Last.", Script(frames=5, hold_after=2))
    body = json.dumps({"input": "Last.", "response_format": "pcm"}).encode()
    async with running_server(speech) as server, asking(server, body) as running:
        head = await running.head()
        await script.held.wait()
        server.registry.start_draining()
        late = await ask(server, input="Late.")
        assert (late.status, late.error["code"]) == (503, "tts_not_ready")
        server.drain.signal()
        idle = asyncio.create_task(server.registry.all_idle())
        done, _ = await asyncio.wait({idle}, timeout=0.05)
        assert not done, "the drain waits for the body"
        script.go.set()
        assert (await running.rest(head)).body == audio_of("Last.", frames=5)
        await asyncio.wait_for(idle, PATIENCE_S)


async def test_a_drain_that_takes_too_long_breaks_the_body_off(speech: FakeSpeech) -> None:
    script = speech.script("Last.", Script(frames=5, hold_after=2))
    body = json.dumps({"input": "Last.", "response_format": "pcm"}).encode()
    async with running_server(speech, drain_s=0.1) as server, asking(server, body) as running:
        head = await running.head()
        await script.held.wait()
        server.drain.signal()
        assert not (await running.rest(head)).whole
        assert speech.active == 0
