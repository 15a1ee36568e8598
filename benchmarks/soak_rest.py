"""Whether everybody has gone, by the servers' own metrics, and what they hold when nobody is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.soak_processes import Held, held
from commands import CommandFailed

IN_FLIGHT = (
    "tts_active_utterances",
    "tts_parked_utterances",
    "tts_waiting_utterances",
    "frontend_connections",
    "frontend_queued_utterances",
    "frontend_active_utterances",
)
SLOTS, FRAMES = "tts_slots", "tts_frames_total"
SETTLE_S = 8.0
"""How long a rest is looked at, of which the least of everything counts: long enough for the engine to give memory
back, which it does when nobody has spoken for five seconds."""
_POLL_S, _LOOK_S = 0.1, 0.5


@dataclass(frozen=True)
class Rest:
    """What the stack held at a rest, after so many utterances; left: what had not ended within the deadline."""

    utterances: int
    at_s: float
    held: Mapping[str, Held]
    left: Mapping[str, float]
    slots: float
    waited_s: float


class Gauges:
    """The servers' metrics as Prometheus would read them; urls: where."""

    def __init__(self, *urls: str) -> None:
        self._urls = urls

    async def read(self) -> dict[str, float]:
        """Each metric by its name, summed over its labels. Raises CommandFailed when a server does not answer."""
        values: dict[str, float] = {}
        async with aiohttp.ClientSession() as session:
            for url in self._urls:
                try:
                    async with session.get(url) as answer:
                        shown = await answer.text()
                except aiohttp.ClientError as failure:
                    raise CommandFailed(f"a server has ended: {failure}") from failure
                for family in text_string_to_metric_families(shown):
                    for sample in family.samples:
                        values[sample.name] = values.get(sample.name, 0.0) + sample.value
        return values


async def at_rest(gauges: Gauges, utterances: int, began: float, within_s: float) -> Rest:
    """Waits until nothing is in flight, within_s at most, and then looks."""
    started = time.monotonic()
    while (left := in_flight(values := await gauges.read())) and time.monotonic() < started + within_s:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
    waited = time.monotonic() - started
    found = held()
    for _ in range(int(SETTLE_S / _LOOK_S)):
        await asyncio.sleep(_LOOK_S)
        found = {name: seen.least(found.get(name, seen)) for name, seen in held().items()}
    return Rest(utterances, time.monotonic() - began, found, left, values[SLOTS], waited)


def in_flight(values: Mapping[str, float]) -> dict[str, float]:
    """Those gauges of work under way that are not 0."""
    return {name: values[name] for name in IN_FLIGHT if values[name] != 0}
