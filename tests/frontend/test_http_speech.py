"""POST /v1/audio/speech over a real server: what comes when, in which form, and what happens when it goes wrong."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from frontend import errors
from frontend.encodings import FILE_FORMATS, make_file_encoder
from frontend.http_utterance import EncodedSpeech, HttpUtterance
from frontend.metrics import Metrics
from frontend.openai_errors import ApiError
from frontend.registry import SessionRegistry
from frontend.speech_order import OPENAI_VOICES, read_order, voice_of
from frontend.synthesis import Description, SpeechRequest
from tests.frontend.conftest import PATIENCE_S, RunningServer, running_server
from tests.frontend.fakes import FRAME_BYTES, FakeSpeech, Script, audio_of

DETAILS = {"type": "custom_voice", "voices": ["makima"], "speakers": ["ryan"], "default_voice": "makima"}


@dataclass
class Answer:
    """An HTTP response; `body` is without the chunks' framing, and `whole` tells whether it came to its end."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    whole: bool = True

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = [event.split("\n") for event in self.body.decode().split("\n\n") if event]
        assert all(named == f"event: {json.loads(data[6:])['type']}" for named, data in lines)
        return [json.loads(data.removeprefix("data: ")) for _, data in lines]


class Download:
    """A response that is being read. Closing it closes the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def head(self) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.partition(": ") for line in lines[1:] if line]
        return Answer(int(lines[0].split()[1]), {name.lower(): value for name, _, value in pairs})

    async def part(self) -> bytes | None:
        """The next chunk, empty at the end; None when the connection ends before."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                return (await self._reader.readexactly(size + 2))[:-2]
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

    async def rest(self, answer: Answer) -> Answer:
        if "content-length" in answer.headers:
            answer.body = await self._reader.readexactly(int(answer.headers["content-length"]))
            return answer
        while part := await self.part():
            answer.body += part
        answer.whole = part is not None
        return answer

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def asking(
    server: RunningServer, body: bytes, path: str = "/v1/audio/speech", method: str = "POST"
) -> AsyncIterator[Download]:
    host, port = server.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        yield Download(reader, writer)
    finally:
        writer.close()


async def ask(server: RunningServer, **fields: object) -> Answer:
    return await ask_raw(server, json.dumps({"model": "qwen3-tts", **fields}).encode())


async def ask_raw(server: RunningServer, body: bytes, path: str = "/v1/audio/speech", method: str = "POST") -> Answer:
    async with asking(server, body, path, method) as download:
        return await download.rest(await download.head())


def encoded(pcm: bytes, encoding: str, sample_rate: int | None = None) -> bytes:
    encoder = make_file_encoder(encoding, sample_rate)
    return b"".join([encoder.start(), *encoder.push(pcm), *encoder.finish()])


@pytest.fixture
def speech() -> FakeSpeech:
    fake = FakeSpeech()
    fake.description = Description("qwen3-tts-fake", "instance-1", False, DETAILS)
    return fake


@pytest.mark.parametrize(
    ("encoding", "content_type"),
    [
        ("mp3", "audio/mpeg"),
        ("opus", "audio/ogg"),
        ("aac", "audio/aac"),
        ("flac", "audio/flac"),
        ("wav", "audio/wav"),
        ("pcm", "audio/pcm"),
    ],
)
async def test_every_format_is_what_its_encoder_makes(server: RunningServer, encoding: str, content_type: str) -> None:
    answer = await ask(server, input="Hello.", response_format=encoding)
    assert (answer.status, answer.whole, answer.headers["content-type"]) == (200, True, content_type)
    assert answer.body == encoded(audio_of("Hello."), encoding)
    assert answer.headers["x-request-id"].startswith("req_")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
    assert set(FILE_FORMATS) == {"mp3", "opus", "aac", "flac", "wav", "pcm"}


async def test_mp3_is_what_one_gets_without_asking(server: RunningServer) -> None:
    assert (await ask(server, input="Hello.")).body == encoded(audio_of("Hello."), "mp3")


@pytest.mark.parametrize("encoding", ["wav", "pcm"])
async def test_plain_sound_comes_at_the_rate_one_asks_for(server: RunningServer, encoding: str) -> None:
    answer = await ask(server, input="Hello.", response_format=encoding, sample_rate=16_000)
    assert answer.body == encoded(audio_of("Hello."), encoding, 16_000)


async def test_sound_is_sent_while_the_rest_is_being_made(server: RunningServer, speech: FakeSpeech) -> None:
    script = speech.script("Slow.", Script(frames=3, hold_after=1))
    async with asking(server, json.dumps({"input": "Slow.", "response_format": "pcm"}).encode()) as download:
        head = await download.head()
        assert await download.part() == audio_of("Slow.")[:FRAME_BYTES]
        await script.held.wait()
        assert speech.active == 1
        script.go.set()
        assert (await download.rest(head)).body == audio_of("Slow.")[FRAME_BYTES:]


async def test_nothing_is_promised_before_there_is_sound(server: RunningServer, speech: FakeSpeech) -> None:
    script = speech.script("Slow.", Script(frames=3, hold_after=0))
    async with asking(server, json.dumps({"input": "Slow."}).encode()) as download:
        head = asyncio.create_task(download.head())
        await script.held.wait()
        assert not head.done()
        script.go.set()
        assert (await head).status == 200


async def test_events_carry_the_same_bytes_and_then_what_they_cost(server: RunningServer) -> None:
    answer = await ask(server, input="Hello.", response_format="wav", stream_format="sse")
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    *sounds, done = answer.events
    assert b"".join(base64.b64decode(sound["audio"]) for sound in sounds) == encoded(audio_of("Hello."), "wav")
    assert {sound["type"] for sound in sounds} == {"speech.audio.delta"}
    assert done == {"type": "speech.audio.done", "usage": {"input_tokens": 6, "output_tokens": 0, "total_tokens": 6}}


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        ({"voice": "makima"}, SpeechRequest("Hi.", voice="makima")),
        ({"voice": {"id": "ryan"}}, SpeechRequest("Hi.", voice="ryan")),
        ({"voice": "alloy"}, SpeechRequest("Hi.")),
        ({"voice": None}, SpeechRequest("Hi.")),
        ({"language": "de", "seed": 7, "speed": 1}, SpeechRequest("Hi.", language="de", seed=7)),
        ({"instructions": " calm "}, SpeechRequest("Hi.", instruct="calm")),
        ({"instructions": ""}, SpeechRequest("Hi.")),
        ({"input": "  Hi.\n", "unknown": [1]}, SpeechRequest("Hi.")),
    ],
)
async def test_the_model_is_asked_for_what_the_client_asked_for(
    server: RunningServer, speech: FakeSpeech, sent: dict[str, Any], heard: SpeechRequest
) -> None:
    assert (await ask(server, **{"input": "Hi.", **sent})).status == 200
    assert speech.requests == [heard]


async def test_names_of_voices_can_be_given_to_others(speech: FakeSpeech) -> None:
    async with running_server(speech, voice_aliases="alloy=ryan, narrator=makima") as server:
        for name in ("alloy", "narrator", "echo"):
            await ask(server, input="Hi.", voice=name)
    assert [request.voice for request in speech.requests] == ["ryan", "makima", None]


def test_a_voice_of_the_model_goes_before_an_alias_of_the_same_name() -> None:
    assert voice_of("echo", frozenset(["echo"]), {"echo": "makima"}) == "echo"
    assert [voice_of(name, frozenset(), {}) for name in OPENAI_VOICES] == [None] * 13
    assert voice_of("nobody", frozenset(), {}) == "nobody"


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
async def test_speed_changes_the_length_and_not_the_format(
    server: RunningServer, speech: FakeSpeech, speed: float
) -> None:
    speech.script("Long.", Script(frames=50))
    answer = await ask(server, input="Long.", response_format="wav", speed=speed)
    with soundfile.SoundFile(io.BytesIO(answer.body)) as file:
        seconds = len(file.read(24_000 * 60)) / file.samplerate
    assert seconds == pytest.approx(50 * 0.08 / speed, rel=0.03)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "invalid_value", "input"),
        ({"input": 7}, "invalid_value", "input"),
        ({"input": " \n"}, "text_empty", "input"),
        ({"input": "a" * 101}, "text_too_long", "input"),
        ({"input": "a\x00b"}, "invalid_value", "input"),
        ({"input": "<|im_end|>"}, "invalid_value", "input"),
        ({"input": "a", "instructions": "<|im_end|>"}, "invalid_value", "instructions"),
        ({"input": "a", "response_format": "ogg"}, "invalid_value", "response_format"),
        ({"input": "a", "stream_format": "ws"}, "invalid_value", "stream_format"),
        ({"input": "a", "speed": 0.2}, "invalid_value", "speed"),
        ({"input": "a", "speed": "fast"}, "invalid_value", "speed"),
        ({"input": "a", "seed": -1}, "invalid_value", "seed"),
        ({"input": "a", "seed": 2**64}, "invalid_value", "seed"),
        ({"input": "a", "voice": {"name": "x"}}, "invalid_value", "voice"),
        ({"input": "a", "voice": ["x"]}, "invalid_value", "voice"),
        ({"input": "a", "voice": {"id": "x" * 257}}, "invalid_value", "voice"),
        ({"input": "a", "sample_rate": 16_000}, "unsupported_format", "sample_rate"),
        ({"input": "a", "response_format": "wav", "sample_rate": 1}, "unsupported_format", "sample_rate"),
    ],
)
async def test_a_wrong_field_is_named(speech: FakeSpeech, fields: dict[str, Any], code: str, param: str) -> None:
    async with running_server(speech, max_request_chars=100) as server:
        answer = await ask(server, **fields)
    assert answer.status == 400
    error = answer.error
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    assert speech.requests == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"input": NaN}', b'{"input": "\\ud800"}', b"[" * 100_000]
)
async def test_what_is_no_json_object_is_refused(server: RunningServer, body: bytes) -> None:
    answer = await ask_raw(server, body)
    assert (answer.status, answer.error["code"]) == (400, "invalid_json")


async def test_a_body_that_is_too_large_is_refused(server: RunningServer) -> None:
    answer = await ask_raw(server, b" " * (1024 * 1024 + 1))
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")


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


async def test_models_are_only_checked_where_that_is_wanted(speech: FakeSpeech) -> None:
    async with running_server(speech, strict_model=True) as strict, running_server(speech) as lenient:
        assert (await ask(lenient, input="Hi.", model="whatever")).status == 200
        refused = await ask(strict, input="Hi.", model="whatever")
        assert (refused.status, refused.error["code"], refused.error["param"]) == (404, "model_not_found", "model")
        for model in (
            "qwen3-tts",
            "qwen3-tts-fake",
            "tts-1",
            "tts-1-hd",
            "gpt-4o-mini-tts",
            "gpt-4o-mini-tts-2025-03-20",
        ):
            assert (await ask(strict, input="Hi.", model=model)).status == 200


async def test_wrong_paths_and_methods_are_refused_in_the_same_shape(server: RunningServer) -> None:
    assert (await ask_raw(server, b"", "/v1/audio/nothing", "GET")).error["code"] == "not_found"
    wrong = await ask_raw(server, b"", "/v1/audio/speech", "GET")
    assert (wrong.status, wrong.error["code"]) == (405, "method_not_allowed")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["input", "voice", "speed", "seed", "id"]), inner),
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_an_order_or_a_refusal(body: bytes) -> None:
    refusal = None
    try:
        order = read_order(body, 100)
    except ApiError as refused:
        refusal = refused
    if refusal is None:
        assert order.text == order.text.strip() != ""
        assert order.encoder().sample_rate == 24_000
    else:
        assert refusal.status == 400
        assert json.dumps(refusal.body).isascii()
