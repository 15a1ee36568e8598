"""Text that is written while it is spoken, through a real tritonserver."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from tests.conftest import Figure
from tests.stack.conftest import same_sound
from tests.stack.serving import Serve
from tests.stack.speaking import infer, stream

pytestmark = pytest.mark.stack

WORDS = ["I", "will", "tell", "you", "what", "I", "see", "as", "I", "see", "it", "and", "no", "later"]
SECONDS_PER_WORD = 0.2


async def test_text_at_five_words_a_second_is_spoken_from_the_second_word_on(stack: Serve, figure: Figure) -> None:
    address = f"127.0.0.1:{stack.ports.triton_grpc}"
    sent: list[float] = []

    async def writing() -> AsyncIterator[dict[str, Any]]:
        began = time.monotonic()
        for number, word in enumerate(WORDS):
            # The pace is what is tested: it is the writer's, not a wait for something to happen.
            await asyncio.sleep(began + number * SECONDS_PER_WORD - time.monotonic())
            sent.append(time.monotonic())
            yield {"text": word + " ", "utterance": "letter", "text_complete": False}
        yield {"text": "", "utterance": "letter", "text_complete": True}

    chunks: list[Any] = []
    first = 0.0
    info: dict[str, Any] = {}
    async for pcm, told in stream(address, writing()):
        if pcm.size and not first:
            first = time.monotonic()
        chunks.append(pcm)
        info = told or info
    written = sum(moment <= first for moment in sent)
    figure(
        "stack: live text, first audio", f"{(first - sent[0]) * 1000:.0f} ms, {written} of {len(WORDS)} words written"
    )
    assert written < 3
    assert info["reason"] == "complete"
    whole, _ = await infer(address, {"text": " ".join(WORDS), "text_placement": "stream"})
    assert same_sound(np.concatenate(chunks), whole)
