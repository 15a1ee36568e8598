"""POST /v1/audio/speech over a real server: every format, what comes when, and at which speed."""

import asyncio
import base64
import io
import json

import pytest
import soundfile

from frontend.encodings import FILE_FORMATS, make_file_encoder
from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import CATALOGUE, FRAME_BYTES, FakeSpeech, Script, audio_of
from tests.frontend.http_client import ask, asking


@pytest.fixture
def speech() -> FakeSpeech:
    return FakeSpeech(description=CATALOGUE)


def encoded(pcm: bytes, encoding: str, sample_rate: int | None = None) -> bytes:
    encoder = make_file_encoder(encoding, sample_rate)
    return b"".join([encoder.start(), *encoder.push(pcm), *encoder.finish()])


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


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
async def test_speed_changes_the_length_and_not_the_format(
    server: RunningServer, speech: FakeSpeech, speed: float
) -> None:
    speech.script("Long.", Script(frames=50))
    answer = await ask(server, input="Long.", response_format="wav", speed=speed)
    with soundfile.SoundFile(io.BytesIO(answer.body)) as file:
        seconds = len(file.read(24_000 * 60)) / file.samplerate
    assert seconds == pytest.approx(50 * 0.08 / speed, rel=0.03)
