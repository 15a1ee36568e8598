"""A listener who leaves: the call is cancelled, and the model is told by name."""

import asyncio
from contextlib import aclosing

import pytest

from frontend.synthesis import Chunk, SpeechRequest
from frontend.triton import UTTERANCE_HEADER, TritonSpeech
from tests.frontend.triton_double import (
    FRAME,
    INFO,
    Behaviour,
    Stream,
    TritonDouble,
    cancelled_once_opened,
    speak_once_and_fall_silent,
    spoken,
)

REQUEST = SpeechRequest("Hello.")


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
    await cancelled_once_opened(double, triton, REQUEST)


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
