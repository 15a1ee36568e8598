"""What the rests of a soak come to: a row for each process and rest, how much each grows, and whether that is a leak.

Knows no server: only how much was held when, and which bounds there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.results import Row
from benchmarks.soak_processes import SHARED_NAME, Held
from benchmarks.soak_rest import Rest

COLUMNS = (
    "process",
    "rest",
    "minutes",
    "utterances",
    "memory_mb",
    "pss_mb",
    "fds",
    "threads",
    "growth_mb_per_1000",
    "bound_mb_per_1000",
)
BOUNDS = {"triton": 2.0, "model": 2.0, "frontend": 1.0, SHARED_NAME: 0.2}
"""MB that may be gained for each 1,000 utterances, by the slope over all rests but the first."""
JUDGED_RESTS, JUDGED_UTTERANCES = 5, 1_000
"""Fewer rests after the first, or fewer utterances between those, say nothing about growth."""
SPARE_FDS, SPARE_THREADS = 4, 3
"""By so much the later half of the rests may hold more than the earlier: pools that fill at their own pace."""


def rows(rests: Sequence[Rest]) -> list[Row]:
    """The table: every process at every rest, then how each grows where that can be judged."""
    found: list[Row] = []
    for name in rests[0].held:
        for number, rest in enumerate(rests):
            if name in rest.held:
                found.append(_row(name, number, rest, rest.held[name]))
    return found + [
        {"process": name, "rest": "growth", "growth_mb_per_1000": slope, "bound_mb_per_1000": _bound(name)}
        for name, slope in slopes(rests).items()
    ]


def slopes(rests: Sequence[Rest]) -> dict[str, float]:
    """MB gained for each 1,000 utterances by every process, by least squares; empty where it cannot be judged."""
    later = rests[1:]
    if len(later) < JUDGED_RESTS or later[-1].utterances - later[0].utterances < JUDGED_UTTERANCES:
        return {}
    x = np.array([rest.utterances for rest in later]) / 1000
    names = set.intersection(*(set(rest.held) for rest in later))
    return {name: float(np.polyfit(x, [rest.held[name].memory_mb for rest in later], 1)[0]) for name in sorted(names)}


def complaints(rests: Sequence[Rest]) -> list[str]:
    """All that was not given back, in sentences; empty for a clean run."""
    said = []
    for number, rest in enumerate(rests):
        said += [f"rest {number}: {name} is still {value:g}" for name, value in rest.left.items()]
        if rest.slots != rests[0].slots:
            said.append(f"rest {number}: {rest.slots:g} slots, {rests[0].slots:g} at the start")
        if rest.held.keys() != rests[0].held.keys():
            said.append(f"rest {number}: the processes are {sorted(rest.held)}")
    for name, slope in slopes(rests).items():
        if slope > _bound(name):
            said.append(f"{name} gains {slope:.2f} MB with 1,000 utterances; the bound is {_bound(name):g}")
    return (
        said
        + _counted(rests, "open files", lambda one: one.fds, SPARE_FDS)
        + _counted(rests, "threads", lambda one: one.threads, SPARE_THREADS)
    )


def _counted(rests: Sequence[Rest], what: str, count: Callable[[Held], int | None], spare: int) -> list[str]:
    """Whatever is always more in the later half of the rests than it ever was in the earlier."""
    said = []
    later = rests[1:]
    half = len(later) // 2
    for name in rests[0].held:
        counts = [count(rest.held[name]) for rest in later if name in rest.held]
        known = [number for number in counts if number is not None]
        if half and len(known) == len(later) and min(known[half:]) > max(known[:half]) + spare:
            said.append(f"{name} has {known[half:]} {what} at the later rests, {known[:half]} at the earlier")
    return said


def _bound(name: str) -> float:
    return next(bound for part, bound in BOUNDS.items() if name.startswith(part))


def _row(name: str, number: int, rest: Rest, one: Held) -> Row:
    return {
        "process": name,
        "rest": number,
        "minutes": round(rest.at_s / 60, 1),
        "utterances": rest.utterances,
        "memory_mb": one.memory_mb,
        "pss_mb": one.pss_mb,
        "fds": one.fds,
        "threads": one.threads,
    }
