"""A full model, through the whole stack: who comes now is told when to come again, by the model's own estimate."""

import asyncio
import json
import math
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException
from websockets.asyncio.client import connect

from tests.stack.serving import Serve, seconds_until
from tests.stack.speaking import stream
from tests.stack.test_cancel import LONG, is_idle

pytestmark = pytest.mark.stack

CAPACITY = 16 + 64
SPEAKERS = 4
# Chunks of sound after which the model knows its own pace.
HEARD = 8


class Crowd:
    """Fills the model: a few who speak at length, and many whose text has not come. `leave` ends them all."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._left = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self) -> None:
        """Return when all were taken in and those who speak are heard."""
        inside = [asyncio.Event() for _ in range(CAPACITY)]
        for number, event in enumerate(inside):
            whole = {"text": LONG * 2, "seed": number}
            live = {"text": "", "utterance": f"crowd-{number}", "text_complete": False}
            self._tasks.append(asyncio.create_task(self._stay(whole if number < SPEAKERS else live, event)))
        async with asyncio.timeout(30):
            await asyncio.gather(*(event.wait() for event in inside))

    async def _stay(self, inputs: dict[str, Any], inside: asyncio.Event) -> None:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield inputs
            await self._left.wait()

        needed = 1 if "utterance" in inputs else HEARD
        async for _ in stream(self._address, requests()):
            needed -= 1
            if not needed:
                inside.set()

    async def leave(self) -> None:
        self._left.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def refusal_of(address: str) -> dict[str, Any]:
    """What the model says to one more."""

    async def request() -> AsyncIterator[dict[str, Any]]:
        yield {"text": "Me too."}

    async def answer() -> None:
        async for _, info in stream(address, request()):
            told.update(info or {})

    told: dict[str, Any] = {}
    with pytest.raises(InferenceServerException, match="80 utterances are running or waiting"):
        await answer()
    return told["error"]


def http_refusal(stack: Serve) -> tuple[int, int]:
    """Status and Retry-After of the OpenAI-compatible endpoint."""
    body = json.dumps({"model": "qwen3-tts", "input": "Me too.", "voice": "ryan"}).encode()
    url = f"http://127.0.0.1:{stack.ports.frontend}/v1/audio/speech"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    return refused.value.code, int(refused.value.headers["Retry-After"])


async def socket_refusal(stack: Serve) -> dict[str, Any]:
    """The error of protocol v2."""
    async with connect(stack.url, subprotocols=["speak.v2"]) as socket:
        await socket.send(json.dumps({"type": "start"}))
        await socket.send(json.dumps({"type": "speak", "request_id": "u1", "text": "Me too."}))
        while True:
            told = json.loads(await socket.recv())
            if told["type"] == "error":
                return told


async def test_a_full_model_tells_every_door_when_to_come_again(stack: Serve) -> None:
    address = f"127.0.0.1:{stack.ports.triton_grpc}"
    crowd = Crowd(address)
    try:
        await crowd.come()
        error = await refusal_of(address)
        status, retry_after = await asyncio.to_thread(http_refusal, stack)
        told = await socket_refusal(stack)
    finally:
        await crowd.leave()
    assert error["code"] == "UNAVAILABLE"
    assert error["retry_after_s"] > 0
    assert status == 503
    # Time goes on between the doors, and the estimate with it.
    assert 1 <= retry_after <= math.ceil(error["retry_after_s"]) + 5
    assert told["code"] == "OVERLOADED"
    assert told["retry_after_ms"] % 1_000 or told["retry_after_ms"] > 1_000, "not the constant of one second"
    await seconds_until(lambda: is_idle(stack), 20)
