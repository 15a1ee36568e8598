"""Requests of which a server says nothing, since it hangs or died: asked again once, and nothing said twice or lost."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from frontend.errors import BackendDied, InferenceFailed, NotReady, Unanswered
from frontend.synthesis import Chunk, SpeechRequest
from frontend.triton import UTTERANCE_HEADER, TritonSpeech
from frontend.triton_pool import TritonPool
from tests.frontend.triton_double import (
    Stream,
    TritonDouble,
    cancelled_once_opened,
    response,
    serving,
    speech_from,
    spoken,
)

REQUEST = SpeechRequest("Hello.")
FRAME = bytes(3840)
INFO = {"reason": "complete"}
ACCEPT_S = 0.4
LIMITS = {"describe_timeout_s": 2.0, "accept_s": ACCEPT_S, "probe_s": 0.3, "stall_s": 10.0}


async def hang(stream: Stream) -> None:
    await asyncio.Event().wait()


async def speak(stream: Stream) -> None:
    await stream.send(FRAME, INFO)


async def speak_live(stream: Stream) -> None:
    """A frame for each text; the texts it got are in its `info`."""
    await stream.take_in()
    texts = [stream.inputs()["text"][2][4:].decode()]
    while not (inputs := await stream.appended.get())["text_complete"][2][0]:
        texts.append(inputs["text"][2][4:].decode())
        await stream.send(FRAME)
    await stream.send(FRAME, INFO | {"texts": texts})


@pytest.fixture
def double() -> TritonDouble:
    """The first utterance that is asked of it hangs, all others are spoken."""

    async def at_second(stream: Stream) -> None:
        first = stream is made.streams[0]
        await (hang if first else speak_live if stream.is_live else speak)(stream)

    made = TritonDouble()
    made.behaviour = at_second
    return made


@pytest.fixture
async def triton(double: TritonDouble) -> AsyncIterator[TritonSpeech]:
    async with speech_from(double, balanced=True, **LIMITS) as speech:
        yield speech


async def words() -> AsyncIterator[str]:
    for text in (" How", " are you?"):
        yield text


async def test_it_is_given_up_and_asked_again_of_a_server_that_answers(
    double: TritonDouble, triton: TritonSpeech
) -> None:
    """A balancer knows that server by the name of the question, which is the utterance's then."""
    asked: list[str | None] = []

    async def describe(stream: Stream) -> None:
        asked.append(stream.metadata.get(UTTERANCE_HEADER))
        if len(asked) > 1:
            await stream.send(b"", {"model": "tiny", "instance": "two"})
        else:
            await hang(stream)

    double.description = describe
    assert await spoken(triton, REQUEST) == [Chunk(FRAME, INFO)]
    await asyncio.wait_for(double.streams[0].cancelled.wait(), 5)
    names = [stream.inputs()["utterance"][2][4:].decode() for stream in double.streams]
    assert [stream.metadata[UTTERANCE_HEADER] for stream in double.streams] == names
    assert names[1] == asked[1], "it goes where the question was answered"
    assert len({*names, *asked}) == 3, "what was left unanswered has a name of its own"
    assert await asyncio.wait_for(double.left.get(), 5) == names[0]


async def test_no_live_text_is_lost_or_said_twice(double: TritonDouble, triton: TritonSpeech) -> None:
    *_, last = await spoken(triton, REQUEST, words())
    assert last.info == INFO | {"texts": ["Hello.", " How", " are you?"]}
    assert double.streams[0].appended.empty(), "none is given away before it was taken in"


async def test_it_is_asked_again_once(double: TritonDouble, triton: TritonSpeech) -> None:
    double.behaviour = hang
    with pytest.raises(Unanswered, match=r"did not say within 0\.4 s that it took the utterance in"):
        await spoken(triton, REQUEST)
    assert len(double.streams) == 2


async def test_it_is_not_asked_again_when_nobody_answers(double: TritonDouble, triton: TritonSpeech) -> None:
    double.description = hang
    began = time.monotonic()
    with pytest.raises(Unanswered):
        await spoken(triton, REQUEST)
    assert 2 * ACCEPT_S <= time.monotonic() - began < 5
    assert len(double.streams) == 1


async def test_one_that_was_taken_in_may_wait_for_its_turn(double: TritonDouble, triton: TritonSpeech) -> None:
    async def wait(stream: Stream) -> None:
        await stream.take_in()
        await asyncio.sleep(3 * ACCEPT_S)  # the waiting itself is what is tested
        await stream.send(FRAME, INFO)

    double.behaviour = wait
    assert await spoken(triton, REQUEST) == [Chunk(FRAME, INFO)], "and the notice is no sound"
    assert len(double.streams) == 1


async def die(stream: Stream) -> None:
    """Its model is loaded anew, of which nothing tells but the description of the next."""
    await stream.take_in()
    await hang(stream)


async def test_one_that_is_lost_before_its_first_sound_is_asked_again(
    double: TritonDouble, triton: TritonSpeech
) -> None:
    async def die_then_speak(stream: Stream) -> None:
        await (die if stream is double.streams[0] else speak)(stream)

    double.behaviour, double.description = die_then_speak, {"model": "tiny", "instance": "two"}
    assert await spoken(triton, REQUEST) == [Chunk(FRAME, INFO)]
    assert len(double.streams) == 2


async def test_live_text_that_was_taken_in_is_not_asked_again_since_some_may_be_gone(
    double: TritonDouble, triton: TritonSpeech
) -> None:
    double.behaviour, double.description = die, {"model": "tiny", "instance": "two"}
    with pytest.raises(BackendDied, match="loaded anew"):
        await spoken(triton, REQUEST, words())
    assert len(double.streams) == 1


async def test_a_cancel_meanwhile_ends_it(double: TritonDouble, triton: TritonSpeech) -> None:
    await cancelled_once_opened(double, triton, REQUEST)
    assert await asyncio.wait_for(double.left.get(), 5) in double.streams[0].metadata.values()
    assert len(double.streams) == 1


async def test_sound_before_the_notice_breaks_the_contract(double: TritonDouble, triton: TritonSpeech) -> None:
    async def speak_at_once(stream: Stream) -> None:
        await stream.context.write(response(FRAME, INFO))

    double.behaviour = speak_at_once
    with pytest.raises(InferenceFailed, match="before it said that it took the utterance in"):
        await spoken(triton, REQUEST)


@pytest.mark.parametrize("live", [False, True])
async def test_of_several_servers_another_is_asked(live: bool) -> None:
    hanging, well = TritonDouble(), TritonDouble()
    hanging.behaviour, well.behaviour = hang, speak_live if live else speak
    async with AsyncExitStack() as servers:
        urls = [await servers.enter_async_context(serving(double)) for double in (hanging, well)]
        pool = TritonPool({url: TritonSpeech(url, "qwen3_tts", **LIMITS) for url in urls})
        for _ in range(2):
            *_, last = await spoken(pool, REQUEST, words() if live else None)
            assert last.info == INFO | ({"texts": ["Hello.", " How", " are you?"]} if live else {})
        await pool.close()
    assert (len(hanging.streams), len(well.streams)) == (1, 2), "one that hangs is passed over"


async def test_where_there_is_nobody_else_it_is_given_up_at_once(double: TritonDouble) -> None:
    """Asked again, the caller would wait twice as long for the same answer, and the server hold what it was asked."""
    asked: list[Stream] = []

    async def hang_as_well(stream: Stream) -> None:
        asked.append(stream)
        await hang(stream)

    double.description = hang_as_well
    async with speech_from(double, **LIMITS | {"describe_timeout_s": 0.4}) as alone:
        with pytest.raises(Unanswered):
            await spoken(alone, REQUEST)
        assert asked == []
        with pytest.raises(NotReady, match=r"within 0\.4 s"):
            await alone.describe()
    assert (len(asked), len(double.streams)) == (1, 1)


async def test_a_question_is_put_again_while_it_is_not_answered(double: TritonDouble, triton: TritonSpeech) -> None:
    async def describe(stream: Stream) -> None:
        asked.append(stream)
        if len(asked) < 3:
            await hang(stream)
        await stream.send(b"", {"model": "tiny", "instance": "two"})

    asked: list[Stream] = []
    double.description = describe
    began = time.monotonic()
    assert (await triton.describe()).instance == "two"
    assert time.monotonic() - began < LIMITS["describe_timeout_s"]
    for stream in asked[:2]:
        await asyncio.wait_for(stream.cancelled.wait(), 5)


async def test_a_question_has_failed_when_every_asking_has(double: TritonDouble, triton: TritonSpeech) -> None:
    asked: list[Stream] = []

    async def hang_then_refuse(stream: Stream) -> None:
        asked.append(stream)
        if len(asked) == 1:
            await hang(stream)
        await stream.refuse("not here")

    double.description = hang_then_refuse
    with pytest.raises(NotReady, match=r"within 2 s"):
        await triton.describe()
    assert len(asked) > 2
