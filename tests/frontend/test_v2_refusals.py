"""What a v2 socket refuses and what fails on it, key by key."""

from typing import Any

import pytest

from frontend.errors import InferenceFailed, InvalidRequest, LoadFailed, NotReady, Overloaded, Stalled
from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import FakeSpeech, Script, audio_of
from tests.frontend.v2 import V2Client, audio_end, timeless, v2_client


@pytest.fixture
async def client(server: RunningServer) -> Any:
    async with v2_client(server) as connected:
        yield connected


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


async def test_a_defect_of_the_wire_is_never_silent(client: V2Client) -> None:
    """An id too long to be echoed is refused without it."""
    await client.send(type="speak", request_id="x" * 129, text="Hello.")
    refusal = await client.until("error")
    assert (refusal["code"], refusal["accepted"], "request_id" in refusal) == ("INVALID_MESSAGE", False, False)
