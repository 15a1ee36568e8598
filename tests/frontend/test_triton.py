"""The Triton client against a real gRPC server: requests, audio, errors by status, silence, and cancel."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
import pytest

from frontend.errors import (
    BackendDied,
    InferenceFailed,
    InvalidRequest,
    NotReady,
    Overloaded,
    SpeechError,
    Stalled,
    UnknownVoice,
    Unsupported,
)
from frontend.synthesis import Chunk, ModelState, ModelStatus, Segment, SpeechRequest
from frontend.triton import UTTERANCE_HEADER, TritonSpeech
from tests.frontend.triton_double import Behaviour, Stream, TritonDouble, serving, speech_from, spoken

REQUEST = SpeechRequest("Hello.")
FRAME = bytes(range(256)) * 15
INFO = {"reason": "complete", "frames": 1}
LIMITS = {"describe_timeout_s": 2.0, "accept_s": 5.0, "probe_s": 0.05, "stall_s": 0.5}


@pytest.fixture
def double() -> TritonDouble:
    return TritonDouble()


@pytest.fixture
async def triton(double: TritonDouble) -> AsyncIterator[TritonSpeech]:
    async with speech_from(double, **LIMITS) as speech:
        yield speech


async def fall_silent(stream: Stream) -> None:
    await asyncio.Event().wait()


async def take_in_and_fall_silent(stream: Stream) -> None:
    await stream.take_in()
    await fall_silent(stream)


async def speak_once_and_fall_silent(stream: Stream) -> None:
    await stream.send(FRAME)
    await fall_silent(stream)


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
    ("status", "kind"),
    [(grpc.StatusCode.UNAVAILABLE, NotReady), (grpc.StatusCode.INTERNAL, InferenceFailed)],
)
async def test_a_call_that_breaks_is_told_by_its_status(
    double: TritonDouble, triton: TritonSpeech, status: grpc.StatusCode, kind: type[SpeechError]
) -> None:
    double.behaviour = lambda stream: stream.break_off(status, "because")
    with pytest.raises(SpeechError, match=r"^because$") as caught:
        await spoken(triton, REQUEST)
    assert type(caught.value) is kind


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


async def speak_until_told_to_end(double: TritonDouble, stream: Stream, ends: asyncio.Queue[str]) -> None:
    """As the model does: the cancel comes by the utterance's name, and the stream ends with an error."""
    await stream.send(FRAME)
    await double.left.get()
    await stream.fail("CANCELLED", "the utterance was cancelled")
    # Triton takes its time to end what it has said all on, and must not be cancelled meanwhile.
    await asyncio.sleep(0.1)
    ends.put_nowait("cancelled" if stream.context.cancelled() else "by itself")


@pytest.mark.parametrize("how", ["closes", "is cancelled while it waits for sound"])
async def test_the_stream_of_a_listener_who_leaves_ends_by_itself_once_the_model_was_told(
    double: TritonDouble, triton: TritonSpeech, how: str
) -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()
    heard = asyncio.Event()
    double.behaviour = lambda stream: speak_until_told_to_end(double, stream, ends)

    async def listen() -> None:
        async with aclosing(triton.speak(REQUEST)) as chunks:
            async for _ in chunks:
                heard.set()
                if how == "closes":
                    return

    listening = asyncio.create_task(listen())
    await asyncio.wait_for(heard.wait(), 5)
    if how != "closes":
        await asyncio.sleep(0)  # it waits for the next chunk by then
        listening.cancel()
    await asyncio.wait({listening})
    assert await asyncio.wait_for(ends.get(), 5) == "by itself"
    assert not double.streams[0].cancelled.is_set()


async def test_what_has_answered_is_not_cancelled_before_its_stream_has_ended(
    double: TritonDouble, triton: TritonSpeech
) -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()

    def then_end(pcm: bytes, info: dict[str, object]) -> Behaviour:
        async def answer(stream: Stream) -> None:
            await stream.send(pcm, info)
            await asyncio.sleep(0.1)  # Triton's own time to end a stream
            ends.put_nowait("cancelled" if stream.context.cancelled() else "by itself")

        return answer

    double.description = then_end(b"", {"model": "tiny", "instance": "one"})
    double.behaviour = then_end(FRAME, INFO)
    assert (await triton.describe()).model == "tiny"
    assert await spoken(triton, REQUEST) == [Chunk(FRAME, INFO)]
    assert [await asyncio.wait_for(ends.get(), 5) for _ in range(2)] == ["by itself"] * 2


async def test_closing_the_generator_cancels_on_the_server(double: TritonDouble, triton: TritonSpeech) -> None:
    double.behaviour = speak_once_and_fall_silent
    async with aclosing(triton.speak(REQUEST)) as chunks:
        await anext(chunks)
    await asyncio.wait_for(double.streams[0].cancelled.wait(), 5)


async def test_the_model_is_told_by_name_of_a_listener_who_leaves_and_of_nobody_else(
    double: TritonDouble, triton: TritonSpeech
) -> None:
    async def speak(stream: Stream) -> None:
        await stream.send(FRAME, INFO)

    double.behaviour = speak
    await spoken(triton, REQUEST)
    double.behaviour = speak_once_and_fall_silent
    async with aclosing(triton.speak(REQUEST)) as chunks:
        await anext(chunks)
    left = await asyncio.wait_for(double.left.get(), 5)
    assert double.streams[1].inputs()["utterance"][2][4:].decode() == left
    assert double.left.empty(), "the first had been told how it ended"


async def test_cancelling_the_reading_task_cancels_on_the_server(double: TritonDouble, triton: TritonSpeech) -> None:
    double.behaviour = speak_once_and_fall_silent
    reading = asyncio.create_task(spoken(triton, REQUEST))
    await asyncio.wait_for(double.opened.wait(), 5)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await asyncio.wait_for(double.streams[0].cancelled.wait(), 5)


async def test_a_silent_model_that_does_not_answer_is_dead(double: TritonDouble, triton: TritonSpeech) -> None:
    async def die(stream: Stream) -> None:
        await stream.send(FRAME)
        double.description = fail_describe
        await fall_silent(stream)

    async def fail_describe(stream: Stream) -> None:
        await stream.refuse("Stub process is not healthy.")

    double.behaviour = die
    with pytest.raises(BackendDied, match="not healthy"):
        await spoken(triton, REQUEST)
    await asyncio.wait_for(double.streams[0].cancelled.wait(), 5)


async def test_a_silent_model_that_was_loaded_anew_is_dead(double: TritonDouble, triton: TritonSpeech) -> None:
    """Also when nobody had asked who speaks before: it has said so itself, before all sound."""
    double.behaviour = take_in_and_fall_silent
    double.description = {"model": "tiny", "instance": "two"}
    with pytest.raises(BackendDied, match="loaded anew"):
        await spoken(triton, REQUEST)


async def test_a_silent_model_that_lives_is_waited_for(double: TritonDouble, triton: TritonSpeech) -> None:
    async def pause(stream: Stream) -> None:
        await stream.send(FRAME)
        await asyncio.sleep(0.2)  # four times the silence after which the model is asked
        await stream.send(FRAME, INFO)

    double.behaviour = pause
    assert await spoken(triton, REQUEST) == [Chunk(FRAME), Chunk(FRAME, INFO)]


async def test_a_balancer_can_tell_which_server_is_asked_about_an_utterance(
    double: TritonDouble, triton: TritonSpeech
) -> None:
    """Any other would describe another model, or cancel nothing."""

    async def answer(stream: Stream) -> None:
        asked.put_nowait(stream.metadata.get(UTTERANCE_HEADER))
        await stream.send(b"", {"model": "tiny", "instance": "one"})

    asked: asyncio.Queue[str | None] = asyncio.Queue()
    double.behaviour = speak_once_and_fall_silent
    double.description = answer
    async with aclosing(triton.speak(REQUEST)) as chunks:
        await anext(chunks)
        waiting = asyncio.create_task(anext(chunks))
        named = await asyncio.wait_for(asked.get(), 5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert named == double.streams[0].metadata[UTTERANCE_HEADER] == await asyncio.wait_for(double.left.get(), 5)
    await triton.describe()
    assert await asked.get() is None


async def test_one_unanswered_question_is_not_death(double: TritonDouble, triton: TritonSpeech) -> None:
    async def pause(stream: Stream) -> None:
        await stream.send(FRAME)
        double.description = fail_once
        await asked_twice.wait()
        await stream.send(FRAME, INFO)

    async def fail_once(stream: Stream) -> None:
        double.description = answer
        await stream.fail("INTERNAL", "hiccup")

    async def answer(stream: Stream) -> None:
        await stream.send(b"", {"model": "tiny", "instance": "one"})
        asked_twice.set()

    asked_twice = asyncio.Event()
    await triton.describe()
    double.behaviour = pause
    assert await spoken(triton, REQUEST) == [Chunk(FRAME), Chunk(FRAME, INFO)]


async def test_a_model_that_lives_but_sends_nothing_has_stalled(double: TritonDouble, triton: TritonSpeech) -> None:
    double.behaviour = take_in_and_fall_silent
    with pytest.raises(Stalled, match=r"sent nothing for 0\.5 s"):
        await spoken(triton, REQUEST)


async def test_describe_gives_the_models_own_words(double: TritonDouble, triton: TritonSpeech) -> None:
    description = await triton.describe()
    assert (description.model, description.instance, description.untrained_demo) == ("tiny", "one", True)
    assert description.label == "tiny (untrained demo)"
    assert description.details == double.description


async def test_describe_does_not_wait_for_ever(double: TritonDouble) -> None:
    double.description = fall_silent
    async with serving(double) as address:
        speech = TritonSpeech(address, "qwen3_tts", **LIMITS | {"describe_timeout_s": 0.2})
        with pytest.raises(NotReady, match=r"within 0\.2 s"):
            await speech.describe()
        await speech.close()


async def test_a_refused_describe_is_not_ready(double: TritonDouble, triton: TritonSpeech) -> None:
    async def refuse(stream: Stream) -> None:
        await stream.refuse("unknown model")

    double.description = refuse
    with pytest.raises(NotReady, match="unknown model"):
        await triton.describe()


@pytest.mark.parametrize(
    ("index", "status"),
    [
        ([], ModelStatus(ModelState.ABSENT)),
        ([("other", "READY", "")], ModelStatus(ModelState.ABSENT)),
        ([("qwen3_tts", "", "")], ModelStatus(ModelState.ABSENT)),
        ([("qwen3_tts", "LOADING", "")], ModelStatus(ModelState.LOADING)),
        ([("qwen3_tts", "READY", "")], ModelStatus(ModelState.READY)),
        ([("qwen3_tts", "UNAVAILABLE", "unloaded")], ModelStatus(ModelState.ABSENT)),
        ([("qwen3_tts", "UNAVAILABLE", "no file")], ModelStatus(ModelState.FAILED, "no file")),
    ],
)
async def test_the_state_of_the_model_is_read_from_the_repository_index(
    double: TritonDouble, triton: TritonSpeech, index: list[tuple[str, str, str]], status: ModelStatus
) -> None:
    double.index = index
    assert await triton.model_status() == status


async def test_a_server_that_is_away_is_not_ready_and_one_that_comes_back_is_used(double: TritonDouble) -> None:
    async with serving(double) as address:
        speech = TritonSpeech(address, "qwen3_tts", **LIMITS)
        assert (await speech.describe()).instance == "one"
    with pytest.raises(NotReady):
        await spoken(speech, REQUEST)
    with pytest.raises(NotReady, match="does not answer"):
        await speech.model_status()
    async with serving(double, address), asyncio.timeout(10):
        while True:
            try:
                assert (await speech.describe()).instance == "one"
                break
            except NotReady:
                await asyncio.sleep(0.05)
    await speech.close()


async def words(*texts: str, last: asyncio.Event | None = None) -> AsyncIterator[str]:
    """Text that comes, and then does not end until `last`."""
    for text in texts:
        yield text
    if last is not None:
        await last.wait()


def text_of(inputs: dict[str, tuple[str, list[int], bytes]]) -> tuple[str, bool]:
    (kind, shape, raw), (flag, _, complete) = inputs["text"], inputs["text_complete"]
    assert (kind, shape, flag) == ("BYTES", [1], "BOOL")
    return raw[4:].decode(), bool(complete[0])


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


async def test_live_text_is_more_requests_on_one_stream(double: TritonDouble, triton: TritonSpeech) -> None:
    got: list[tuple[str, bool]] = []
    names: set[bytes] = set()

    async def speak(stream: Stream) -> None:
        while not got or not got[-1][1]:
            inputs = stream.inputs() if not got else await stream.appended.get()
            got.append(text_of(inputs))
            names.add(inputs["utterance"][2])
            await stream.send(FRAME)
        await stream.half_closed.wait()
        await stream.send(b"", INFO)

    double.behaviour = speak
    for _ in range(2):
        got.clear()
        async with aclosing(triton.speak(REQUEST, words(" How", " are you?"))) as chunks:
            assert [chunk async for chunk in chunks] == [Chunk(FRAME)] * 4 + [Chunk(b"", INFO)]
        assert got == [("Hello.", False), (" How", False), (" are you?", False), ("", True)]
    assert len(names) == 2, "every utterance has a name of its own"


async def test_live_text_that_the_model_ends_early_is_over(double: TritonDouble, triton: TritonSpeech) -> None:
    async def give_up(stream: Stream) -> None:
        await stream.send(FRAME)
        await stream.send(b"", {"reason": "text_timeout"})
        await stream.half_closed.wait()

    double.behaviour = give_up
    more = asyncio.Event()
    async with aclosing(triton.speak(REQUEST, words(last=more))) as chunks:
        assert [chunk.info async for chunk in chunks] == [None, {"reason": "text_timeout"}]


@pytest.mark.parametrize("ending", ["cancel", "failure"])
async def test_no_task_waits_for_more_text_of_what_has_ended(
    double: TritonDouble, triton: TritonSpeech, ending: str
) -> None:
    async def speak(stream: Stream) -> None:
        await stream.send(FRAME)
        if ending == "failure":
            await stream.fail("INTERNAL", "gone")
        await fall_silent(stream)

    double.behaviour = speak
    await triton.describe()
    before = asyncio.all_tasks()
    async with aclosing(triton.speak(REQUEST, words(last=asyncio.Event()))) as chunks:
        await anext(chunks)
        if ending == "failure":
            with pytest.raises(InferenceFailed):
                await anext(chunks)
    ours = ("words", "growing", "_consume_request_iterator")
    left = {task for task in asyncio.all_tasks() - before if any(name in repr(task) for name in ours)}
    if left:
        assert not (await asyncio.wait(left, timeout=5))[1]


async def test_a_segment_is_told_with_its_first_audio(double: TritonDouble, triton: TritonSpeech) -> None:
    segment = {"index": 0, "text_start": 0, "text_end": 6, "sample_offset": 0}

    async def speak(stream: Stream) -> None:
        await stream.send(FRAME, {"segment": segment})
        await stream.send(FRAME, INFO | {"segment": segment})

    double.behaviour = speak
    begun = Segment(0, 6, 0)
    assert await spoken(triton, REQUEST) == [Chunk(FRAME, None, begun), Chunk(FRAME, INFO, begun)]
