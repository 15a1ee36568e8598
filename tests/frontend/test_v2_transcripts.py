"""The v2 wire key by key, over a real socket."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from frontend.encodings import SOCKET_FORMATS
from frontend.synthesis import Segment
from tests.frontend.conftest import RunningServer, running_server
from tests.frontend.fakes import CATALOGUE, FRAME_BYTES, FakeSpeech, Script, audio_of, live_audio_of
from tests.frontend.v2 import V2Client, audio_end, timeless, v2_client

FORMAT = {"encoding": "pcm_s16le", "sample_rate": 24000, "channels": 1, "framing": "plain"}
LIMITS = {
    "max_message_bytes": 65536,
    "max_text_chars": 5000,
    "max_request_chars": 20000,
    "max_active": 4,
    "max_queued": 8,
    "idle_timeout_s": 120.0,
    "max_session_s": 7200.0,
}


@pytest.fixture
async def client(server: RunningServer) -> Any:
    async with v2_client(server) as connected:
        yield connected


async def test_the_subprotocol_is_selected_and_greeted_and_a_token_is_not_echoed(server: RunningServer) -> None:
    offered = [Subprotocol("bearer.secret"), Subprotocol("speak.v2")]
    async with connect(f"ws://{server.address}/api/v1/speak", subprotocols=offered) as connection:
        assert connection.subprotocol == "speak.v2"
        ready = json.loads(await connection.recv())
    assert ready.pop("session_id").startswith("s_")
    assert ready == {
        "type": "ready",
        "protocol": 2,
        "server": "qwen3-tts-triton/1.0",
        "model": "qwen3-tts-fake",
        "voice": "makima",
        "cloning": False,
        "format": FORMAT,
        "features": ["streaming_text", "live_text", "concurrent", "marks", "progress", "opus"],
        "limits": LIMITS,
    }


async def test_a_first_start_leaves_protocol_1(server: RunningServer) -> None:
    async with connect(f"ws://{server.address}/api/v1/speak") as connection:
        assert connection.subprotocol is None
        start = {"type": "start", "protocol": 2, "voice": "ryan", "format": {"encoding": "mulaw"}}
        await connection.send(json.dumps(start))
        ready = json.loads(await connection.recv())
        assert (ready["type"], ready["protocol"], ready["voice"]) == ("ready", 2, "ryan")
        assert ready["format"] == FORMAT | {"encoding": "mulaw", "sample_rate": 8000}


async def test_a_start_behind_the_first_message_of_protocol_1_is_refused(server: RunningServer) -> None:
    async with server.client() as client:
        await client.send(type="cancel")
        await client.send(type="start", protocol=2)
        answer = json.loads(await client.receive())
        assert answer["message"] == "`start` with protocol 2 must be the first message of its socket"


async def test_a_spoken_text_is_audio_start_mark_audio_and_audio_end(client: V2Client) -> None:
    await client.speak("Hello.", "u1", voice="makima")
    heard = await client.ended("u1")
    start, mark, *frames, end = (timeless(event) for event in heard.events)
    assert start == {
        "type": "audio_start",
        "request_id": "u1",
        "stream_id": 1,
        "voice": "makima",
        "cloned": False,
        "sample_rate": 24000,
        "format": "pcm_s16le",
        "channels": 1,
        "queue_ms": 0,
    }
    assert mark == {
        "type": "mark",
        "request_id": "u1",
        "kind": "segment",
        "index": 0,
        "text": "Hello.",
        "char_start": 0,
        "char_end": 6,
        "start_ms": 0,
        "sample_start": 0,
    }
    assert frames == [FRAME_BYTES] * 3
    assert end == audio_end("u1", 5760)
    assert heard.audio == audio_of("Hello.", "makima")


async def test_every_field_of_a_speak_reaches_the_model(client: V2Client, speech: FakeSpeech) -> None:
    wishes = {"instructions": "calm", "seed": 2**64 - 1, "temperature": 0, "top_p": 0.5, "top_k": 3}
    await client.speak("Hello.", "u1", language="en", max_seconds=0.1, **wishes)
    heard = await client.ended("u1")
    (request,) = speech.requests
    assert (request.language, request.instruct, request.seed) == ("en", "calm", 2**64 - 1)
    assert (request.temperature, request.top_p, request.top_k, request.max_frames) == (0, 0.5, 3, 2)
    assert timeless(heard.terminal) == audio_end("u1", 2400, reason="max_length")


async def test_an_id_is_made_when_none_is_given(client: V2Client) -> None:
    await client.speak("Hello.")
    assert (await client.until("audio_end"))["request_id"] == "r_1"


async def test_a_waiting_request_is_told_its_position(client: V2Client, speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(frames=4, hold_after=1))
    await client.speak("Long.", "u1")
    await client.audio()
    await client.speak("Hello.", "u2")
    await client.speak("Hello.", "u3")
    assert await client.until("queued", "u2") == {"type": "queued", "request_id": "u2", "position": 1}
    assert await client.until("queued", "u3") == {"type": "queued", "request_id": "u3", "position": 2}
    script.go.set()
    for name in ("u1", "u2", "u3"):
        assert (await client.ended(name)).terminal is not None


async def test_segments_are_marked_where_they_sound(client: V2Client, speech: FakeSpeech) -> None:
    segments = {0: Segment(0, 4, 0), 2: Segment(5, 9, 3840)}
    speech.script("One. Two.", Script(frames=4, segments=segments))
    await client.speak("One. Two.", "u1", format={"encoding": "pcm_s16le", "sample_rate": 48000})
    heard = await client.ended("u1")
    marks = [(mark["index"], mark["text"], mark["char_start"], mark["char_end"]) for mark in heard.of_type("mark")]
    assert marks == [(0, "One.", 0, 4), (1, "Two.", 5, 9)]
    assert [(mark["start_ms"], mark["sample_start"]) for mark in heard.of_type("mark")] == [(0, 0), (160, 7680)]
    assert heard.types == ["audio_start", "mark", "audio", "mark", "audio", "audio_end"]


async def test_timestamps_can_be_left_out_and_words_are_not_promised(client: V2Client) -> None:
    await client.speak("Hello.", "u1", timestamps="none")
    assert (await client.ended("u1")).types == ["audio_start", "audio", "audio_end"]
    await client.speak("Hello.", "u2", timestamps="word")
    heard = await client.ended("u2")
    assert heard.of_type("warning")[0]["code"] == "TIMESTAMPS_UNAVAILABLE"
    assert len(heard.of_type("mark")) == 1


async def test_an_unknown_voice_is_a_warning_and_the_default_speaks(client: V2Client, speech: FakeSpeech) -> None:
    await client.speak("Hello.", "u1", voice="nobody")
    heard = await client.ended("u1")
    assert heard.types == ["warning", "audio_start", "mark", "audio", "audio_end"]
    assert heard.of_type("warning")[0]["code"] == "VOICE_NOT_FOUND"
    start = heard.of_type("audio_start")[0]
    assert (start["voice"], start["cloned"]) == ("makima", False)
    await client.speak("Hel", "u2", voice="nobody", final=False)
    await client.send(type="text", request_id="u2", text="lo.")
    await client.send(type="end", request_id="u2")
    assert (await client.ended("u2")).audio == live_audio_of("Hello.")


async def test_a_ping_is_answered_with_its_id(client: V2Client) -> None:
    await client.send(type="ping", id="p1")
    assert await client.until("pong") == {"type": "pong", "id": "p1"}
    await client.send(type="ping")
    assert await client.until("pong") == {"type": "pong"}


async def test_what_the_model_ignores_is_told(client: V2Client, speech: FakeSpeech) -> None:
    speech.script("Hello.", Script(info={"reason": "complete", "ignored": ["instruct"]}))
    await client.speak("Hello.", "u1", instructions="calm")
    warning = (await client.ended("u1")).of_type("warning")[0]
    assert (warning["code"], warning["message"]) == ("INPUT_IGNORED", "the loaded model has no use for instructions")


async def test_what_the_model_ignores_is_told_once_a_request(client: V2Client, speech: FakeSpeech) -> None:
    for text in ("One.", " Two."):
        speech.script(text, Script(info={"reason": "complete", "ignored": ["instruct"]}))
    await client.speak("One.", "u1", instructions="calm", final=False)
    await client.send(type="flush", request_id="u1")
    await client.until("flushed")
    await client.send(type="text", request_id="u1", text=" Two.")
    await client.send(type="end", request_id="u1")
    assert len((await client.ended("u1")).of_type("warning")) == 1
    assert len(speech.requests) == 2


async def test_the_model_says_how_long_it_worked_and_its_queue_was_no_work(
    client: V2Client, speech: FakeSpeech
) -> None:
    speech.script("Hello.", Script(info={"reason": "complete", "timings": {"total_s": 2.5, "queue_s": 1.0}}))
    await client.speak("Hello.", "u1")
    assert (await client.ended("u1")).terminal["generation_ms"] == 1500


@pytest.mark.parametrize("final", [True, False])
async def test_where_the_model_does_not_say_so_its_work_is_what_it_was_waited_for(
    client: V2Client, speech: FakeSpeech, final: bool
) -> None:
    script = speech.script("Hello.", Script(hold_after=1))
    await client.speak("Hello.", "u1", final=final)
    await script.held.wait()
    asyncio.get_running_loop().call_later(0.1, script.go.set)
    if not final:
        await client.send(type="end", request_id="u1")
    assert (await client.ended("u1")).terminal["generation_ms"] >= 100


async def test_progress_is_told_no_more_often_than_it_is_good_for(
    client: V2Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frontend.speaking.PROGRESS_S", 600.0)
    await client.speak("Hello.", "u1", progress=True)
    assert (await client.ended("u1")).of_type("progress") == []


@pytest.mark.parametrize(
    ("kind", "voice", "cloned"),
    [("base", "makima", True), ("base", None, True), ("base", "ryan", False), ("custom_voice", "makima", False)],
)
async def test_only_a_recording_that_is_copied_is_called_a_clone(
    speech: FakeSpeech, kind: str, voice: str | None, cloned: bool
) -> None:
    speech.description = replace(CATALOGUE, details=dict(CATALOGUE.details) | {"type": kind})
    async with running_server(speech) as server, v2_client(server) as client:
        await client.speak("Hello.", "u1", voice=voice)
        [start] = (await client.ended("u1")).of_type("audio_start")
        assert (start["voice"], start["cloned"]) == (voice or "makima", cloned)


@pytest.mark.parametrize("encoding", sorted(SOCKET_FORMATS))
async def test_speech_without_a_sound_has_no_beginning(client: V2Client, speech: FakeSpeech, encoding: str) -> None:
    speech.script("Hm.", Script(frames=0))
    await client.speak("Hm.", "u1", format={"encoding": encoding})
    assert (await client.ended("u1")).types == ["audio_end"]


@pytest.mark.parametrize(
    ("limits", "frames"), [({}, 25), ({"max_frames": 900}, 25), ({"max_frames": 20}, 20), ({"max_total_frames": 9}, 9)]
)
async def test_no_more_is_asked_of_the_model_than_it_may_make(
    speech: FakeSpeech, limits: dict[str, int], frames: int
) -> None:
    speech.description = replace(CATALOGUE, details=dict(CATALOGUE.details) | {"limits": limits})
    async with running_server(speech) as server, v2_client(server) as client:
        await client.speak("Hello.", "u1", max_seconds=2)
        await client.ended("u1")
    assert [request.max_frames for request in speech.requests] == [frames]


async def test_progress_is_told_when_asked_for(speech: FakeSpeech, client: V2Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("frontend.speaking.PROGRESS_S", 0.0)
    await client.speak("Hello.", "u1", progress=True)
    shown = (await client.ended("u1")).of_type("progress")
    assert [(one["audio_ms"], one["chars_done"]) for one in shown] == [(80, 0), (160, 0), (240, 0), (240, 0)]
