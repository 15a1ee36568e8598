"""The requests of one utterance in the order they go to the model: one, or as many as its text comes in.

Plain names and values; it knows neither tensors nor the stream they travel on.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any


async def only(inputs: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The one request of a text that is whole."""
    yield inputs


async def growing(
    inputs: dict[str, Any], more: AsyncIterator[str], accepted: asyncio.Event, ended: asyncio.Event
) -> AsyncIterator[dict[str, Any]]:
    """The requests of live text: the first with all that is asked for, then, when it was accepted, text as it comes.

    Text for an utterance that is refused meanwhile would be nobody's. grpc leaves the task that iterates this alone
    when the server ends the stream; `ended` ends it then. `inputs` name the utterance.
    """
    name = inputs["utterance"]
    yield inputs | {"text_complete": False}
    ending = asyncio.create_task(ended.wait())
    acceptance = asyncio.create_task(accepted.wait())
    try:
        await asyncio.wait({acceptance, ending}, return_when=asyncio.FIRST_COMPLETED)
        while not ended.is_set():
            text = asyncio.ensure_future(anext(more, None))
            try:
                await asyncio.wait({text, ending}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                text.cancel()
            if not text.done() or text.cancelled():
                return
            if (words := text.result()) is None:
                yield {"text": "", "utterance": name, "text_complete": True}
                return
            yield {"text": words, "utterance": name, "text_complete": False}
    finally:
        ending.cancel()
        acceptance.cancel()
