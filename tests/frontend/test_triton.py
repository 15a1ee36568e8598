"""The Triton client against a real gRPC server: requests, audio, segments, and errors by code."""

import grpc
import pytest

from frontend.errors import (
    InferenceFailed,
    InvalidRequest,
    NotReady,
    Overloaded,
    SpeechError,
    UnknownVoice,
    Unsupported,
)
from frontend.synthesis import Chunk, Segment, SpeechRequest
from frontend.triton import TritonSpeech
from tests.frontend.triton_double import FRAME, INFO, Stream, TritonDouble, spoken

REQUEST = SpeechRequest("Hello.")


async def test_an_utterance_is_its_chunks_and_the_last_has_info(double: TritonDouble, triton: TritonSpeech) -> None:
    async def speak(stream: Stream) -> None:
        await stream.send(FRAME)
        await stream.send(FRAME * 2)
        await stream.send(b"", INFO)

    double.behaviour = speak
    assert await spoken(triton, REQUEST) == [Chunk(FRAME), Chunk(FRAME * 2), Chunk(b"", INFO)]


async def test_the_last_chunk_may_carry_audio_too(double: TritonDouble, triton: TritonSpeech) -> None:
    async def speak(stream: Stream) -> None:
        await stream.send(FRAME, INFO)

    double.behaviour = speak
    assert await spoken(triton, REQUEST) == [Chunk(FRAME, INFO)]


async def test_only_what_is_asked_for_is_sent_and_the_stream_is_half_closed(
    double: TritonDouble, triton: TritonSpeech
) -> None:
    async def speak(stream: Stream) -> None:
        await stream.send(b"", INFO)

    double.behaviour = speak
    await spoken(triton, SpeechRequest("Grüße", "makima"))
    await spoken(triton, SpeechRequest("a", None, "de"))
    first, second = double.streams
    assert first.half_closed.is_set()
    assert first.request.model_name == "qwen3_tts"
    assert "triton_grpc_error" not in first.metadata, "the packaged Triton crashes over it"
    inputs = first.inputs()
    assert inputs.pop("utterance") != second.inputs()["utterance"], "every utterance has a name of its own"
    assert inputs == {
        "acknowledge": ("BOOL", [1], b"\x01"),
        "text": ("BYTES", [1], b"\x07\0\0\0" + "Grüße".encode()),
        "voice": ("BYTES", [1], b"\x06\0\0\0makima"),
    }
    assert set(second.inputs()) == {"text", "language", "utterance", "acknowledge"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARG", InvalidRequest),
        ("NOT_FOUND", UnknownVoice),
        ("UNSUPPORTED", Unsupported),
        ("UNAVAILABLE", Overloaded),
        ("INTERNAL", InferenceFailed),
        ("CANCELLED", InferenceFailed),
        ("NEW", InferenceFailed),
    ],
)
async def test_each_code_is_an_error_of_its_own(
    double: TritonDouble, triton: TritonSpeech, code: str, kind: type[SpeechError]
) -> None:
    async def fail(stream: Stream) -> None:
        await stream.fail(code, "because")

    double.behaviour = fail
    with pytest.raises(SpeechError, match=r"^because$") as caught:
        await spoken(triton, REQUEST)
    assert type(caught.value) is kind


@pytest.mark.parametrize(("more", "retry_ms"), [({"retry_after_s": 2.345}, 2_345), ({}, None)])
async def test_a_full_model_says_when_to_try_again_where_it_can_tell(
    double: TritonDouble, triton: TritonSpeech, more: dict[str, float], retry_ms: int | None
) -> None:
    double.behaviour = lambda stream: stream.fail("UNAVAILABLE", "full", **more)
    with pytest.raises(Overloaded, match=r"^full$") as caught:
        await spoken(triton, REQUEST)
    assert caught.value.retry_after_ms == retry_ms


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "because", NotReady),
        (grpc.StatusCode.INTERNAL, "because", InferenceFailed),
        # Where the connection ends between the beginning of a call and the first write.
        (grpc.StatusCode.INTERNAL, "Internal error from Core", NotReady),
    ],
)
async def test_a_call_that_breaks_is_told_by_its_status_and_logged_with_its_words(
    double: TritonDouble,
    triton: TritonSpeech,
    status: grpc.StatusCode,
    words: str,
    kind: type[SpeechError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    double.behaviour = lambda stream: stream.break_off(status, words)
    with pytest.raises(SpeechError, match=r"^Triton (does not answer|broke the call off)$") as caught:
        await spoken(triton, REQUEST)
    assert type(caught.value) is kind
    assert caplog.messages == [f"a stream from Triton broke off: {status.name}: {words}"]


async def test_a_failure_after_the_first_audio_is_never_a_refusal(double: TritonDouble, triton: TritonSpeech) -> None:
    async def break_off(stream: Stream) -> None:
        await stream.send(FRAME)
        await stream.fail("UNAVAILABLE", "gone")

    double.behaviour = break_off
    with pytest.raises(InferenceFailed, match="gone"):
        await spoken(triton, REQUEST)


async def test_an_end_without_info_is_a_failure(double: TritonDouble, triton: TritonSpeech) -> None:
    async def end_early(stream: Stream) -> None:
        await stream.send(FRAME)

    double.behaviour = end_early
    with pytest.raises(InferenceFailed, match="without saying how"):
        await spoken(triton, REQUEST)


@pytest.mark.parametrize(("state", "kind"), [("LOADING", NotReady), ("READY", InferenceFailed)])
async def test_a_request_that_triton_refuses_is_judged_by_the_state_of_the_model(
    double: TritonDouble, triton: TritonSpeech, state: str, kind: type[SpeechError]
) -> None:
    async def refuse(stream: Stream) -> None:
        await stream.refuse("no")

    double.behaviour = refuse
    double.index = [("qwen3_tts", state, "")]
    with pytest.raises(kind, match="no"):
        await spoken(triton, REQUEST)


async def test_every_wish_is_a_tensor_of_its_type(double: TritonDouble, triton: TritonSpeech) -> None:
    async def speak(stream: Stream) -> None:
        await stream.send(b"", INFO)

    double.behaviour = speak
    request = SpeechRequest("a", "v", "de", "calm", temperature=0.0, top_k=3, top_p=0.5, seed=2**64 - 1, max_frames=9)
    await spoken(triton, request)
    inputs = double.streams[0].inputs()
    assert {name: kind for name, (kind, _, _) in inputs.items() if kind != "BYTES"} == {
        "temperature": "FP32",
        "top_k": "INT32",
        "top_p": "FP32",
        "seed": "UINT64",
        "max_frames": "INT32",
        "acknowledge": "BOOL",
    }
    assert inputs["seed"][2] == b"\xff" * 8


async def test_a_segment_is_told_with_its_first_audio(double: TritonDouble, triton: TritonSpeech) -> None:
    segment = {"index": 0, "text_start": 0, "text_end": 6, "sample_offset": 0}

    async def speak(stream: Stream) -> None:
        await stream.send(FRAME, {"segment": segment})
        await stream.send(FRAME, INFO | {"segment": segment})

    double.behaviour = speak
    begun = Segment(0, 6, 0)
    assert await spoken(triton, REQUEST) == [Chunk(FRAME, None, begun), Chunk(FRAME, INFO, begun)]
