"""Live text through the Triton client: more requests on one stream, and no task left of what has ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from frontend.errors import (
    InferenceFailed,
)
from frontend.synthesis import Chunk, SpeechRequest
from frontend.triton import TritonSpeech
from tests.frontend.triton_double import (
    FRAME,
    INFO,
    Stream,
    TritonDouble,
    fall_silent,
)

REQUEST = SpeechRequest("Hello.")


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
