"""The v2 wire key by key, over a real socket."""

import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from frontend.errors import InferenceFailed, InvalidRequest, LoadFailed, NotReady, Overloaded, Stalled
from frontend.synthesis import Segment
from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import FRAME_BYTES, FakeSpeech, Script, audio_of, live_audio_of
from tests.frontend.v2 import V2Client, v2_client

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
TIMES = ("ttfa_ms", "generation_ms", "queue_ms", "rtf")


@pytest.fixture
async def client(server: RunningServer) -> Any:
    async with v2_client(server) as connected:
        yield connected


def timeless(event: Any) -> Any:
    """An event with figures that differ from run to run set to 0, once they are known to be figures."""
    if not isinstance(event, dict):
        return len(event)
    for name in TIMES:
        assert event.get(name) is None or event[name] >= 0
    return {name: 0 if name in TIMES and value is not None else value for name, value in event.items()}


def audio_end(request_id: str, samples: int, **changes: Any) -> dict[str, Any]:
    return {
        "type": "audio_end",
        "request_id": request_id,
        "sample_rate": 24000,
        "format": "pcm_s16le",
        "channels": 1,
        "cancelled": False,
        "reason": "complete",
        "samples": samples,
        "duration_ms": samples // 24,
        "ttfa_ms": 0,
        "generation_ms": 0,
        "chars": 6,
        "tokens": samples // 1920,
    } | changes


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


@pytest.mark.parametrize("text", ["", " \n"])
async def test_live_text_that_never_came_is_complete_and_silent(client: V2Client, text: str) -> None:
    await client.speak(text, "u1", final=False)
    await client.send(type="end", request_id="u1")
    end = (await client.ended("u1")).terminal
    assert timeless(end) == audio_end("u1", 0, ttfa_ms=None, chars=len(text))
    assert client.requests["u1"].types == ["audio_end"]


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


async def test_an_unknown_voice_is_an_error_when_voices_are_strict(client: V2Client) -> None:
    await client.speak("Hello.", "u1", voice="nobody", strict_voice=True)
    assert (await client.ended("u1")).terminal == {
        "type": "error",
        "code": "VOICE_NOT_FOUND",
        "message": "no voice 'nobody'",
        "recoverable": True,
        "request_id": "u1",
        "accepted": False,
    }


@pytest.mark.parametrize(
    ("failure", "code", "retry_after_ms"),
    [
        (InvalidRequest("bad"), "INVALID_MESSAGE", None),
        (NotReady("bad"), "TTS_NOT_READY", 1000),
        (Overloaded("bad", 800), "OVERLOADED", 800),
    ],
)
async def test_what_the_model_refuses_was_never_accepted(
    client: V2Client, speech: FakeSpeech, failure: Exception, code: str, retry_after_ms: int | None
) -> None:
    speech.script("Fail.", Script(frames=0, error=failure))
    await client.speak("Fail.", "u1")
    heard = await client.ended("u1")
    expected = {"type": "error", "code": code, "message": "bad", "recoverable": True, "request_id": "u1"}
    retry = {} if retry_after_ms is None else {"retry_after_ms": retry_after_ms}
    assert heard.events == [expected | {"accepted": False} | retry]
    del client.requests["u1"]  # its id is free again
    await client.speak("Hello.", "u1")
    assert (await client.until("audio_end"))["reason"] == "complete"


@pytest.mark.parametrize(
    ("failure", "code"), [(InferenceFailed("bad"), "TTS_INFERENCE_FAILED"), (Stalled("bad"), "TTS_TIMEOUT")]
)
async def test_a_failure_is_an_error_and_then_audio_end(
    client: V2Client, speech: FakeSpeech, failure: Exception, code: str
) -> None:
    speech.script("Fail.", Script(frames=2, error=failure))
    await client.speak("Fail.", "u1")
    heard = await client.ended("u1")
    assert heard.types == ["audio_start", "mark", "audio", "error", "audio_end"]
    assert heard.of_type("error")[0] == {
        "type": "error",
        "code": code,
        "message": "bad",
        "recoverable": True,
        "request_id": "u1",
        "accepted": True,
    }
    assert timeless(heard.terminal) == audio_end("u1", 3840, reason="failed", chars=5)


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (ZeroDivisionError("our own"), "INTERNAL", "internal error"),
        (LoadFailed("no file"), "TTS_LOAD_FAILED", "the model could not be loaded"),
    ],
)
async def test_what_will_not_go_away_is_told_and_closes_with_1011(
    client: V2Client, speech: FakeSpeech, failure: Exception, code: str, reason: str
) -> None:
    speech.script("Fail.", Script(frames=0, error=failure))
    await client.speak("Fail.", "u1")
    await client.speak("Next.", "u2")
    assert await client.closed() == (1011, reason)
    (error,) = client.requests["u1"].of_type("error")
    assert (error["code"], error["recoverable"]) == (code, False)
    assert client.requests["u1"].terminal is not None
    assert client.requests["u2"].terminal["reason"] == "cancelled"


@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        ("{", "INVALID_MESSAGE", None),
        (b"\x00", "INVALID_MESSAGE", "binary messages are not part of this protocol"),
        (b"", "INVALID_MESSAGE", "binary messages are not part of this protocol"),
        ('{"type":"sing"}', "INVALID_MESSAGE", None),
        ('{"type":"text","text":"a"}', "INVALID_MESSAGE", "Failed to parse message: missing field `request_id`"),
        ('{"type":"start","protocol":3}', "INVALID_MESSAGE", "this socket speaks protocol 2, not 3"),
        ('{"type":"text","request_id":"x","text":"a"}', "UNKNOWN_REQUEST", "no request of this id is open"),
        ('{"type":"start","format":{"encoding":"mp3"}}', "UNSUPPORTED_FORMAT", None),
        ('{"type":"start","format":{"encoding":"mulaw","sample_rate":16000}}', "UNSUPPORTED_FORMAT", None),
        ('{"type":"start","mode":"concurrent"}', "INVALID_MESSAGE", None),
    ],
)
async def test_an_invalid_message_is_answered_without_accepted(
    client: V2Client, sent: str | bytes, code: str, message: str | None
) -> None:
    await client.connection.send(sent)
    answer = await client.until("error")
    assert (answer["code"], answer["recoverable"]) == (code, True)
    assert message is None or answer["message"] == message
    assert "accepted" not in answer
    await client.speak("Hello.", "u1")
    assert (await client.ended("u1")).terminal["reason"] == "complete"


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({}, "INVALID_MESSAGE", "Failed to parse message: missing field `text`"),
        ({"text": " "}, "TEXT_EMPTY", "text is blank"),
        ({"text": "x" * 5001}, "TEXT_TOO_LONG", "text has 5001 characters, the limit is 5000"),
        ({"text": "a<|im_end|>"}, "INVALID_MESSAGE", "text has the model token '<|im_end|>' at position 1"),
        (
            {"text": "a", "seed": -1},
            "INVALID_MESSAGE",
            "Failed to parse message: field `seed` must be from 0 to 18446744073709551615, not -1",
        ),
        (
            {"text": "a", "top_k": 1.5},
            "INVALID_MESSAGE",
            "Failed to parse message: field `top_k` must be a whole number, not number",
        ),
        (
            {"text": "a", "mode": "later"},
            "INVALID_MESSAGE",
            "Failed to parse message: field `mode` is 'later', expected one of `queue`, `interrupt`, `concurrent`",
        ),
        (
            {"text": "a", "format": {"encoding": "opus", "sample_rate": 44100}},
            "UNSUPPORTED_FORMAT",
            None,
        ),
    ],
)
async def test_a_malformed_speak_is_refused_by_its_id(
    client: V2Client, fields: dict[str, Any], code: str, message: str | None
) -> None:
    await client.send(type="speak", request_id="u1", **fields)
    answer = (await client.ended("u1")).terminal
    assert (answer["code"], answer["accepted"], answer["recoverable"]) == (code, False, True)
    assert message is None or answer["message"] == message


async def test_a_live_id_cannot_be_used_twice(client: V2Client, speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(hold_after=1))
    await client.speak("Long.", "u1")
    await client.audio()
    await client.speak("Hello.", "u1")
    refusal = await client.until("error")
    assert (refusal["code"], refusal["request_id"], refusal["accepted"]) == ("DUPLICATE_REQUEST", "u1", False)
    script.go.set()
    assert (await client.ended("u1")).audio == audio_of("Long.")


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


async def test_text_that_stays_away_ends_with_timeout(speech: FakeSpeech, server: RunningServer) -> None:
    speech.script("Wait.", Script(info={"reason": "text_timeout"}))
    async with v2_client(server) as client:
        await client.speak("Wait.", "u1", final=False)
        await client.send(type="flush", request_id="u1")
        assert (await client.ended("u1")).terminal["reason"] == "timeout"


async def test_progress_is_told_when_asked_for(speech: FakeSpeech, client: V2Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("frontend.speaking.PROGRESS_S", 0.0)
    await client.speak("Hello.", "u1", progress=True)
    shown = (await client.ended("u1")).of_type("progress")
    assert [(one["audio_ms"], one["chars_done"]) for one in shown] == [(80, 0), (160, 0), (240, 0), (240, 0)]


async def test_a_defect_of_the_wire_is_never_silent(client: V2Client) -> None:
    """An id too long to be echoed is refused without it."""
    await client.send(type="speak", request_id="x" * 129, text="Hello.")
    refusal = await client.until("error")
    assert (refusal["code"], refusal["accepted"], "request_id" in refusal) == ("INVALID_MESSAGE", False, False)
