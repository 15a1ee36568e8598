"""A model that sends nothing: asked whether it lives, waited for, or given up."""

import asyncio

import pytest

from frontend.errors import (
    BackendDied,
    Stalled,
)
from frontend.synthesis import Chunk, SpeechRequest
from frontend.triton import TritonSpeech
from tests.frontend.triton_double import (
    FRAME,
    INFO,
    LIMITS,
    Stream,
    TritonDouble,
    fall_silent,
    speech_from,
    spoken,
    take_in_and_fall_silent,
)

REQUEST = SpeechRequest("Hello.")


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
        for _ in range(4):
            await asyncio.wait_for(asked.get(), 5)
        await stream.send(FRAME, INFO)

    async def answer(stream: Stream) -> None:
        await stream.send(b"", {"model": "tiny", "instance": "one"})
        asked.put_nowait(None)

    asked: asyncio.Queue[None] = asyncio.Queue()
    double.behaviour, double.description = pause, answer
    assert await spoken(triton, REQUEST) == [Chunk(FRAME), Chunk(FRAME, INFO)]


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


async def test_a_model_that_lives_but_sends_nothing_has_stalled(double: TritonDouble) -> None:
    double.behaviour = take_in_and_fall_silent
    async with speech_from(double, **LIMITS | {"stall_s": 0.5}) as triton:
        with pytest.raises(Stalled, match=r"sent nothing for 0\.5 s"):
            await spoken(triton, REQUEST)
