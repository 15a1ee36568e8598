"""Open-loop load: requests come when a Poisson process says so, however busy the server is.

A request's clock starts when it is due, not when the generator got round to it, so that a server (or a generator)
that falls behind cannot hide it. Knows no server.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.serving_listener import Hearing

PATIENCE_S = 120.0
"""After its last request is due, how long a run waits for those under way; what is left then counts as an error."""


@dataclass(frozen=True)
class Request:
    """A text to be spoken, so many seconds after the start of the run, with a seed of its own."""

    at: float
    text: str
    seed: int


class Door(Protocol):
    """A way into the server."""

    async def speak(self, request: Request, hearing: Hearing) -> None:
        """Speaks, and tells `hearing` all that comes, how it ends included."""
        ...


def poisson(rate: float, seconds: float, seed: int, texts: Sequence[str]) -> list[Request]:
    """Requests at `rate` per second on average for so long; the same arguments give the same requests.

    At least one, so that a short run measures something.
    """
    drawn = random.Random(f"{rate} {seconds} {seed}")
    requests: list[Request] = []
    at = drawn.expovariate(rate)
    while at < seconds or not requests:
        requests.append(Request(at, drawn.choice(texts), drawn.getrandbits(32)))
        at += drawn.expovariate(rate)
    return requests


async def drive(door: Door, requests: Sequence[Request]) -> list[Hearing]:
    """Sends each request when it is due; what was heard of each."""
    start = time.monotonic()
    hearings = [Hearing(due=start + request.at) for request in requests]
    under_way = []
    for request, hearing in zip(requests, hearings, strict=True):
        await asyncio.sleep(max(0.0, hearing.due - time.monotonic()))
        under_way.append(asyncio.create_task(door.speak(request, hearing)))
    _, late = await asyncio.wait(under_way, timeout=PATIENCE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    for hearing, task in zip(hearings, under_way, strict=True):
        if hearing.outcome is None:
            failure = None if task.cancelled() else task.exception()
            hearing.end("error", f"did not end within {PATIENCE_S:g} s" if failure is None else repr(failure))
    return hearings
