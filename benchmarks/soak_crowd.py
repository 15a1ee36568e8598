"""A crowd of seeded clients, each doing one thing after the other until its time is over, drawn by weight."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks import soak_http, soak_sockets, soak_triton
from benchmarks.soak_tally import Places, Tally, Unexpected, Visit

Behaviour = Callable[[Visit], Awaitable[None]]
BEHAVIOURS: dict[Behaviour, int] = {
    soak_sockets.speaks_v1: 4,
    soak_sockets.converses_v2: 6,
    soak_sockets.cancels: 5,
    soak_sockets.vanishes: 4,
    soak_sockets.stops_reading: 1,
    soak_sockets.talks_nonsense: 2,
    soak_http.reads_a_body: 3,
    soak_http.drops_a_body: 3,
    soak_http.errs: 1,
    soak_http.adds_a_voice: 1,
    soak_triton.clones: 2,
    soak_triton.cancels_a_stream: 3,
    soak_triton.sends_bad_tensors: 1,
}
"""What a client may do, and how often beside all else."""
PATIENCE_S = 90.0
"""Longer than anything a client does may take on a busy machine."""


def named(names: str) -> dict[Behaviour, int]:
    """Some of the behaviours by their names, comma-separated, or all for none. Raises ValueError."""
    known = {behaviour.__name__: behaviour for behaviour in BEHAVIOURS}
    wanted = [name for name in names.split(",") if name] or list(known)
    if unknown := set(wanted) - known.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return {known[name]: BEHAVIOURS[known[name]] for name in wanted}


@dataclass(frozen=True)
class Crowd:
    """Who comes: how many at a time, what they do by weight, and the seed of what they draw."""

    clients: int
    behaviours: dict[Behaviour, int]
    seed: int

    async def visit(self, places: Places, spell: int, seconds: float, tally: Tally) -> None:
        """All of them for so long; returns when the last has gone. The same seed and spell draw the same."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                visit = Visit(places, random.Random(f"{self.seed} {spell} {number}"), tally)
                group.create_task(self._client(number, visit, until))

    async def _client(self, number: int, visit: Visit, until: float) -> None:
        await asyncio.sleep(visit.drawn.uniform(0, 1))  # nobody's clients all come at the same moment
        every = list(self.behaviours)
        await act(every[number % len(every)], visit)  # so that even a short run does everything once
        while time.monotonic() < until:
            [behaviour] = visit.drawn.choices(every, list(self.behaviours.values()))
            await act(behaviour, visit)


async def act(behaviour: Behaviour, visit: Visit) -> None:
    """Does one thing; whatever goes wrong is counted by what it was."""
    name = behaviour.__name__
    visit.count("visits")
    try:
        async with asyncio.timeout(PATIENCE_S):
            await behaviour(visit)
    except TimeoutError:
        visit.tally.unexpected[f"{name}: not over after {PATIENCE_S:g} s"] += 1
    except Unexpected as met:
        visit.tally.unexpected[f"{name}: {met}"] += 1
    except Exception as failure:  # noqa: BLE001 - whatever a client's library raises is a finding
        visit.tally.unexpected[f"{name}: {type(failure).__name__}: {str(failure)[:160]}"] += 1
