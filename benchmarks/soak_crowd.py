"""A crowd of seeded clients, each doing one thing after the other until its time is over, drawn by weight."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

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


async def crowd(places: Places, clients: int, seconds: float, seed: str, tally: Tally) -> None:
    """So many clients for so long; returns when the last has gone. The same seed draws the same."""
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(_client(Visit(places, random.Random(f"{seed} {number}"), tally), until))


async def _client(visit: Visit, until: float) -> None:
    await asyncio.sleep(visit.drawn.uniform(0, 1))  # nobody's clients all come at the same moment
    while time.monotonic() < until:
        [behaviour] = visit.drawn.choices(list(BEHAVIOURS), list(BEHAVIOURS.values()))
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
