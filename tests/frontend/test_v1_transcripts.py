"""The v1 wire byte for byte, over a real socket."""

import json

import pytest

from frontend.errors import InferenceFailed, InvalidRequest, LoadFailed, NotReady, Unsupported
from tests.frontend.conftest import Client, RunningServer
from tests.frontend.fakes import FRAME_BYTES, FakeSpeech, Script, audio_of

AUDIO_END = '{"type":"audio_end","sample_rate":24000,"format":"pcm_s16le","channels":1,"cancelled":false}'
CANCELLED = '{"type":"audio_end","sample_rate":24000,"format":"pcm_s16le","channels":1,"cancelled":true}'


def error(code: str, message: str) -> str:
    return f'{{"type":"error","code":"{code}","message":"{message}","recoverable":false}}'


async def test_a_spoken_text_is_its_audio_and_one_audio_end(client: Client) -> None:
    await client.connection.send('{"type":"speak","text":"Hello.","voice":"makima"}')
    audio = audio_of("Hello.", "makima")
    frames = [audio[start : start + FRAME_BYTES] for start in range(0, len(audio), FRAME_BYTES)]
    assert [await client.receive() for _ in range(4)] == [*frames, AUDIO_END]


async def test_both_paths_speak(server: RunningServer) -> None:
    async with server.client("/v1/audio/speech/ws") as client:
        await client.speak("Hello.")
        assert await client.utterance() == (audio_of("Hello."), AUDIO_END)


async def test_audio_arrives_while_the_rest_is_still_to_be_made(client: Client, speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(frames=4, hold_after=1))
    await client.speak("Long.")
    first = await client.receive()
    assert first == audio_of("Long.", frames=4)[:FRAME_BYTES]
    assert speech.frames_made == 1
    script.go.set()
    assert await client.utterance() == (audio_of("Long.", frames=4)[FRAME_BYTES:], AUDIO_END)


async def test_a_large_chunk_is_sent_in_pieces_of_at_most_160_ms(client: Client, speech: FakeSpeech) -> None:
    speech.script("Hello.", Script(frames=5, frames_per_chunk=5))
    await client.speak("Hello.")
    audio = b""
    while isinstance(frame := await client.receive(), bytes):
        assert len(frame) <= 2 * FRAME_BYTES
        assert len(frame) % 2 == 0
        audio += frame
    assert audio == audio_of("Hello.", frames=5)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ('{"type":"speak"}', "Failed to parse message: missing field `text`"),
        ('{"type":"speak","text":7}', "Failed to parse message: field `text` must be a string, not number"),
        (
            '{"type":"speak","text":"a","voice":[]}',
            "Failed to parse message: field `voice` must be a string, not array",
        ),
        ('{"text":"a"}', "Failed to parse message: missing field `type`"),
        ("[1]", "Failed to parse message: expected a JSON object"),
        (
            '{"type":"sing"}',
            "Failed to parse message: unknown type 'sing', expected one of `speak`, `cancel`, `stop`",
        ),
        ('{"type":"speak","text":" \\n\\t "}', "text is blank"),
        ('{"type":"speak","text":""}', "text is blank"),
        ('{"type":"speak","text":"a\\u0007b"}', "text has the control character U+0007 at position 1"),
        ('{"type":"speak","text":"a<|im_end|>"}', "text has the model token '<|im_end|>' at position 1"),
        ('{"type":"start"}', "`start` asks for a protocol this server does not speak; it speaks protocol 1"),
        ('{"type":"flush"}', "`flush` does not belong to protocol 1, which this socket speaks"),
    ],
)
async def test_an_invalid_message_is_answered_and_the_socket_goes_on(client: Client, sent: str, answer: str) -> None:
    await client.connection.send(sent)
    assert await client.receive() == error("INVALID_MESSAGE", answer)
    await client.speak("Hello.")
    assert (await client.utterance())[1] == AUDIO_END


async def test_bad_json_is_answered_with_the_prefix_of_the_original(client: Client) -> None:
    await client.connection.send("{not json")
    answer = json.loads(await client.receive())
    assert list(answer) == ["type", "code", "message", "recoverable"]
    assert answer["code"] == "INVALID_MESSAGE"
    assert answer["message"].startswith("Failed to parse message: ")


async def test_a_too_long_text_is_refused_with_its_length_and_the_limit(client: Client) -> None:
    await client.speak("x" * 5001)
    assert await client.receive() == error("INVALID_MESSAGE", "text has 5001 characters, the limit is 5000")


async def test_a_text_is_normalised_before_it_is_measured_and_spoken(client: Client, speech: FakeSpeech) -> None:
    await client.speak(" " + "e\u0301" * 5000 + "\n")
    assert (await client.utterance())[1] == AUDIO_END
    assert speech.requests[-1].text == "\u00e9" * 5000


async def test_a_null_voice_means_no_voice(client: Client, speech: FakeSpeech) -> None:
    await client.speak("Hello.", voice=None)
    assert await client.utterance() == (audio_of("Hello."), AUDIO_END)
    assert speech.requests[-1].voice is None


async def test_a_language_is_passed_on_when_it_is_a_string(client: Client, speech: FakeSpeech) -> None:
    await client.speak("Hello.", language="en")
    await client.speak("Hello.", language=5)
    await client.utterance()
    await client.utterance()
    assert [request.language for request in speech.requests] == ["en", None]


async def test_an_unknown_voice_is_logged_and_spoken_with_the_default(
    client: Client, speech: FakeSpeech, caplog: pytest.LogCaptureFixture
) -> None:
    await client.speak("Hello.", voice="nobody")
    assert await client.utterance() == (audio_of("Hello."), AUDIO_END)
    assert [request.voice for request in speech.requests] == ["nobody", None]
    assert "unknown voice" in caplog.text


async def test_unknown_fields_are_ignored(client: Client) -> None:
    await client.speak("Hello.", seed=7, final=False, format={"encoding": "opus"})
    assert await client.utterance() == (audio_of("Hello."), AUDIO_END)


async def test_a_request_id_is_echoed_in_audio_end_and_error(client: Client) -> None:
    await client.speak("Hello.", request_id="u1")
    assert (await client.utterance())[1] == AUDIO_END.replace('"audio_end",', '"audio_end","request_id":"u1",')
    for malformed in ('{"type":"speak","request_id":"u2"}', '{"type":"speak","text":" ","request_id":"u2"}'):
        await client.connection.send(malformed)
        answer = await client.receive()
        assert isinstance(answer, str)
        assert answer.endswith('"recoverable":false,"request_id":"u2"}')


async def test_binary_from_the_client_is_ignored_empty_or_not(client: Client) -> None:
    await client.connection.send(b"")
    await client.connection.send(b"\x00\x01")
    await client.speak("Hello.")
    assert await client.utterance() == (audio_of("Hello."), AUDIO_END)


async def test_a_message_over_the_limit_closes_with_1009(client: Client) -> None:
    await client.connection.send('{"type":"speak","text":"' + "x" * 70_000 + '"}')
    assert (await client.closed())[0] == 1009


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (InvalidRequest("language is bad"), "INVALID_MESSAGE"),
        (Unsupported("language is bad"), "INVALID_MESSAGE"),
        (NotReady("language is bad"), "TTS_NOT_READY"),
        (LoadFailed("language is bad"), "TTS_LOAD_FAILED"),
        (InferenceFailed("language is bad"), "TTS_INFERENCE_FAILED"),
    ],
)
async def test_each_failure_has_its_code_and_no_audio_end(
    client: Client, speech: FakeSpeech, failure: Exception, code: str
) -> None:
    speech.script("Fail.", Script(frames=2, error=failure))
    await client.speak("Fail.")
    assert await client.utterance() == (audio_of("Fail.", frames=2), error(code, "language is bad"))
    await client.speak("Hello.")
    assert await client.utterance() == (audio_of("Hello."), AUDIO_END)


async def test_a_defect_ends_the_utterance_and_not_the_socket(client: Client, speech: FakeSpeech) -> None:
    speech.script("Fail.", Script(frames=0, error=ZeroDivisionError("our own")))
    await client.speak("Fail.")
    answer = await client.utterance()
    assert answer == (b"", error("TTS_INFERENCE_FAILED", "the server failed while it spoke this text"))
    await client.speak("Hello.")
    assert (await client.utterance())[1] == AUDIO_END


async def test_a_cancelled_text_ends_with_cancelled_true(client: Client, speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(frames=9, hold_after=1))
    await client.speak("Long.")
    await client.receive()
    await script.held.wait()
    await client.connection.send('{"type":"cancel"}')
    assert await client.receive() == CANCELLED


async def test_the_text_is_never_logged_but_everything_else_is(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await client.speak("Secret.", voice="ryan", request_id="u1")
    await client.utterance()
    await client.speak("Secret.")
    await client.utterance()
    line = next(record.getMessage() for record in caplog.records if "request=" in record.getMessage())
    assert "Secret" not in caplog.text
    for fact in ("session=s_", 'request="u1"', 'voice="ryan"', "chars=7", 'reason="complete"', "samples=5760"):
        assert fact in line
    for figure in ("ttfa_ms=", "total_ms="):
        assert figure in line
