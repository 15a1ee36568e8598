"""Open-loop load on running servers, door after door and rate after rate; starts them unless they run elsewhere.

Knows no command line.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import Row
from benchmarks.serving_doors import TritonDoor, WebSocketDoor
from benchmarks.serving_load import Door, Request, drive
from benchmarks.serving_processes import processor_seconds, since
from benchmarks.serving_report import row
from benchmarks.serving_servers import Addresses, Served, servers

_WARM_UP = Request(0.0, "Hello there.", 0)
_SOCKETS_PER_RATE = 4  # open before the first request: as many as are spoken to at once, as a rule


@dataclass(frozen=True)
class Load:
    """Which doors are knocked at, with which requests at each rate."""

    doors: Sequence[str]
    rates: Sequence[float]
    runs: Sequence[Sequence[Request]]


async def load_servers(
    target: Served | Addresses, load: Load, workspace: Path, told: Callable[[Row], Row]
) -> list[Row]:
    """A row for each door and rate; each goes through `told` when it is there. Raises CommandFailed."""
    rows = []
    async with _addresses(target, workspace) as addresses:
        for name in load.doors:
            for rate, requests in zip(load.rates, load.runs, strict=True):
                async with _door(name, addresses, rate) as door:
                    await drive(door, [_WARM_UP])
                    before = processor_seconds()
                    hearings = await drive(door, requests)
                    rows.append(told(row(name, rate, hearings, since(before))))
    return rows


@contextlib.asynccontextmanager
async def _addresses(target: Served | Addresses, workspace: Path) -> AsyncGenerator[Addresses, None]:
    if isinstance(target, Addresses):
        yield target
    else:
        async with servers(target, workspace) as addresses:
            yield addresses


@contextlib.asynccontextmanager
async def _door(name: str, addresses: Addresses, rate: float) -> AsyncGenerator[Door, None]:
    if name == "triton":
        async with TritonDoor(addresses.triton) as door:
            yield door
    else:
        opened = _SOCKETS_PER_RATE + round(_SOCKETS_PER_RATE * rate)
        async with WebSocketDoor(addresses.websocket, 1 if name == "websocket-v1" else 2, opened) as sockets:
            yield sockets
