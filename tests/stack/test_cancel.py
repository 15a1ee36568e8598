"""A cancel through the whole stack: heard at any time, answered once, and the slot of the model is free again."""

import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import Figure
from tests.stack.serving import Serve, seconds_until
from tests.stack.speaking import CANCELLED, COMPLETE, Heard, ask, infer, listen, speak, stream

pytestmark = pytest.mark.stack

# Long enough for several seconds of work, so that whatever ends sooner was ended.
LONG = "A long story has a beginning, then a middle that goes on and on, and only at last an end. " * 6
SHORT = "Still here."
SLOT_LIMIT = 0.150
LOST_LIMIT = 5.0
CANCEL = '{"type":"cancel"}'


def is_idle(stack: Serve) -> bool:
    return stack.metric("tts_active_utterances") == 0 and stack.metric("tts_waiting_utterances") == 0


async def start_long_speech(socket: ClientConnection) -> Heard:
    """An utterance of which some audio has come and most is still to be made."""
    heard = Heard(await ask(socket, LONG))
    await listen(socket, heard, messages=3)
    assert not heard.terminal
    return heard


async def test_a_cancel_in_mid_utterance_frees_the_slot_within_150_ms(stack: Serve, figure: Figure) -> None:
    answers, slots = [], []
    async with connect(stack.url) as socket:
        for _ in range(5):
            heard = await start_long_speech(socket)
            assert stack.metric("tts_active_utterances") == 1
            asked = time.monotonic()
            await socket.send(CANCEL)
            slots.append(await seconds_until(lambda: stack.metric("tts_active_utterances") == 0, LOST_LIMIT))
            await listen(socket, heard)
            assert heard.terminal == CANCELLED
            answers.append(heard.ended - asked)
        assert (await speak(socket, SHORT)).terminal == COMPLETE
    figure("stack: from cancel to a free slot", ", ".join(f"{seconds * 1000:.0f} ms" for seconds in slots))
    assert statistics.median(slots) <= SLOT_LIMIT


async def test_a_cancel_ends_what_is_spoken_and_what_is_queued(stack: Serve) -> None:
    before = stack.metric("tts_utterances_total")
    async with connect(stack.url) as socket:
        heard = await start_long_speech(socket)
        queued = [Heard(await ask(socket, LONG)), Heard(await ask(socket, SHORT))]
        await socket.send(CANCEL)
        for one in (heard, *queued):
            await listen(socket, one)
        assert [one.terminal for one in (heard, *queued)] == [CANCELLED] * 3
        assert [one.pcm for one in queued] == [[], []]
        await seconds_until(lambda: is_idle(stack), LOST_LIMIT)
        assert stack.metric("tts_utterances_total") == before + 1, "what was only queued never reached the model"
        assert (await speak(socket, SHORT)).terminal == COMPLETE


async def test_stop_closes_the_socket_without_a_word_and_frees_the_slot(stack: Serve) -> None:
    async with connect(stack.url) as socket:
        heard = await start_long_speech(socket)
        await socket.send('{"type":"stop"}')
        with pytest.raises(ConnectionClosed) as closed:
            await listen(socket, heard)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
    assert not heard.terminal
    await seconds_until(lambda: is_idle(stack), LOST_LIMIT)


async def test_a_lost_socket_frees_the_slot(stack: Serve, figure: Figure) -> None:
    before = stack.metric("tts_utterances_total", reason="cancelled")
    async with connect(stack.url) as socket:
        await start_long_speech(socket)
        socket.transport.abort()
        seconds = await seconds_until(lambda: is_idle(stack), LOST_LIMIT)
    figure("stack: from a lost socket to a free slot", f"{seconds * 1000:.0f} ms")
    assert stack.metric("tts_utterances_total", reason="cancelled") == before + 1


async def test_an_utterance_is_cancelled_by_its_name_from_another_stream(stack: Serve) -> None:
    address = f"127.0.0.1:{stack.ports.triton_grpc}"
    told: list[dict[str, Any]] = []

    async def only(**inputs: Any) -> AsyncIterator[dict[str, Any]]:
        yield inputs

    async def cancel() -> None:
        async for answer in stream(address, only(utterance="by name", cancel=True)):
            pytest.fail(f"a cancel has no response, got {answer}")

    async def speak_and_cancel() -> None:
        async for _, info in stream(address, only(text=LONG, utterance="by name")):
            if info is not None:
                told.append(info)
                if len(told) == 1:
                    await cancel()

    with pytest.raises(InferenceServerException, match="cancelled"):
        await speak_and_cancel()
    assert told[-1]["error"]["code"] == "CANCELLED"
    await seconds_until(lambda: is_idle(stack), LOST_LIMIT)
    await cancel()
    assert is_idle(stack), "a name that is nobody's any more does no harm"


async def test_a_name_as_long_as_names_may_be_is_taken_and_a_longer_one_refused(stack: Serve) -> None:
    address = f"127.0.0.1:{stack.ports.triton_grpc}"
    assert (await infer(address, {"text": "Short.", "utterance": "ü" * 256}))[1]["reason"] in ("complete", "max_length")
    refusal = r"utterance must have at most 256 characters, got 257: 'ü{32}'…"
    for request in ({"text": "Short.", "utterance": "ü" * 257}, {"cancel": True, "utterance": "ü" * 257}):
        with pytest.raises(InferenceServerException, match=refusal):
            await infer(address, request)
