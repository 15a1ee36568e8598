"""A listener who leaves: the call is cancelled, and the model is told by name."""

import asyncio
from contextlib import aclosing

import pytest

from frontend.synthesis import SpeechRequest
from frontend.triton import UTTERANCE_HEADER, TritonSpeech
from tests.frontend.triton_double import (
    FRAME,
    INFO,
    Stream,
    TritonDouble,
    speak_once_and_fall_silent,
    spoken,
)

REQUEST = SpeechRequest("Hello.")


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
