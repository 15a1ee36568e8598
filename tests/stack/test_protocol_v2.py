"""Protocol v2 through the whole stack: live text, many streams on one socket, and cancels at any moment."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from frontend.client import Audio, SpeechClient
from frontend.heard import Utterance
from tests.conftest import Figure
from tests.stack.serving import Serve, seconds_until
from tests.stack.speaking import Pcm

pytestmark = pytest.mark.stack

TAGGED = {"encoding": "pcm_s16le", "framing": "tagged"}
TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps."
CANCELS = 200
# Ten times what the first sound takes.
LATEST_CANCEL_S = 0.12
SLOT_PATIENCE_S = 10


async def sound(utterance: Utterance) -> Pcm:
    return np.frombuffer(b"".join([payload async for payload in utterance.audio()]), dtype="<i2").astype(np.int16)


async def test_live_text_sounds_the_same_however_it_is_cut(stack: Serve) -> None:
    dice = random.Random(3)
    async with SpeechClient(stack.url) as client:
        heard = []
        for pieces in (1, 2, 9):
            cuts = sorted(dice.sample(range(1, len(TEXT)), pieces - 1))
            utterance = await client.speak("", final=False, max_seconds=4)
            for start, end in zip([0, *cuts], [*cuts, len(TEXT)], strict=True):
                await client.send({"type": "text", "request_id": utterance.request_id, "text": TEXT[start:end]})
                await asyncio.sleep(dice.random() * 0.05)
            await utterance.end()
            heard.append(await sound(utterance))
            assert utterance.audio_end["reason"] in ("complete", "max_length")
    assert len(heard[0]) > 0
    assert all(np.array_equal(heard[0], other) for other in heard[1:])


async def test_speech_comes_before_the_text_is_complete_and_a_flush_ends_a_generation(stack: Serve) -> None:
    async with SpeechClient(stack.url) as client:
        utterance = await client.speak(TEXT, final=False, max_seconds=60)
        async for arrived in utterance:
            if isinstance(arrived, Audio):
                break
        await utterance.flush()
        async for arrived in utterance:
            if not isinstance(arrived, Audio) and arrived.type == "flushed":
                await utterance.append(" And again.")
                await utterance.end()
        assert utterance.audio_end["reason"] in ("complete", "max_length")


async def test_eight_tagged_streams_sound_as_each_does_alone(stack: Serve) -> None:
    texts = [f"Text number {number} is spoken here." for number in range(8)]
    async with SpeechClient(stack.url) as client:
        alone = [await sound(await client.speak(text, seed=5, max_seconds=1.6)) for text in texts]
    async with SpeechClient(stack.url, format=TAGGED, mode="concurrent") as client:
        utterances = [await client.speak(text, seed=5, max_seconds=1.6) for text in texts]
        together = await asyncio.gather(*map(sound, utterances))
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other) > 0
        assert int(np.abs(one.astype(int) - other.astype(int)).max()) <= 1


def idle(stack: Serve) -> bool:
    """Whether no slot is taken and nobody waits for one."""
    return stack.metric("tts_active_utterances") == 0 and stack.metric("tts_waiting_utterances") == 0


async def cancelled_at_random(
    stack: Serve, client: SpeechClient, dice: random.Random
) -> AsyncIterator[tuple[float, float]]:
    """Seconds from each cancel to its answer, and to a model whose slots are all free."""
    for _ in range(CANCELS):
        live = dice.random() < 0.4
        utterance = await client.speak(TEXT, final=not live, max_seconds=20)
        waiting = await client.speak(TEXT) if dice.random() < 0.3 else None
        await asyncio.sleep(dice.random() * LATEST_CANCEL_S)
        asked = time.monotonic()
        await client.cancel_all()
        async for _arrived in utterance:
            pass
        answered = time.monotonic() - asked
        await seconds_until(lambda: idle(stack), SLOT_PATIENCE_S)
        yield answered, time.monotonic() - asked
        if waiting is not None:
            await sound(waiting)
            assert waiting.audio_end["cancelled"]


async def test_a_cancel_at_any_moment_is_answered_soon(stack: Serve, figure: Figure) -> None:
    async with SpeechClient(stack.url) as client:
        times = [pair async for pair in cancelled_at_random(stack, client, random.Random(11))]
        answered, freed = (sorted(column) for column in zip(*times, strict=True))
        late = int(CANCELS * 0.95)
        figure(
            f"v2: {CANCELS} cancels at random moments and in random states, p95",
            f"{answered[late] * 1000:.0f} ms to audio_end, {freed[late] * 1000:.0f} ms until the metrics show all free",
        )
        # A busy machine makes a few late, but not half of them, and none very.
        assert answered[CANCELS // 2] < 0.1
        assert freed[CANCELS // 2] < 0.5
        assert answered[late] < 1
        # Every slot is free: the next utterance begins at once.
        assert len(await sound(await client.speak("After all.", max_seconds=0.4))) > 0
