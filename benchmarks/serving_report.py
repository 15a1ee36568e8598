"""What the hearings of one run come to: a row for each door and rate, and the tax of each layer between two rows.

Knows no door.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.charts import Chart, Panel
from benchmarks.serving_listener import AUDIBLE_DBFS, SAMPLE_RATE, Hearing

Row = dict[str, Any]

PLAYER_WAIT_S = 0.1
COLUMNS = (
    "door",
    "rate_per_s",
    "requests",
    "in_flight",
    "first_p50_ms",
    "first_p95_ms",
    "first_p99_ms",
    "audible_p50_ms",
    "audible_p95_ms",
    "audible_p99_ms",
    "underruns_at_once",
    "streams_underrun_at_once_pct",
    "underruns_after_100ms",
    "streams_underrun_after_100ms_pct",
    "whole_p50_ms",
    "whole_p95_ms",
    "audio_s_per_s",
    "refused",
    "errors",
    "cpu_ms_per_audio_s",
)
_TAXED = tuple(column for column in COLUMNS if column.endswith("_ms"))
NOTES = (
    "Every clock starts when its request is due by the Poisson schedule (open loop). *first*: the first piece of "
    f"sound; *audible*: the piece with the first sample above {AUDIBLE_DBFS:g} dBFS; *whole*: the end.",
    "*underruns*: of a player that begins with the first sound at once, and of one that waits 100 ms; a gap shorter "
    "than 1 ms does not count. *in flight*: utterances under way, on average over the run.",
    "*tax* rows are the differences between two doors that were given the same requests. *cpu*: processor time of "
    "all processes but the load generator for each second of sound (the engine's own door: not measured).",
)


def row(door: str, rate: float, hearings: Sequence[Hearing], used: Mapping[str, float]) -> Row:
    """One line of the table. used: processor seconds by part."""
    complete = [hearing for hearing in hearings if hearing.outcome == "complete"]
    audio_s = sum(hearing.samples for hearing in hearings) / SAMPLE_RATE
    span_s = max(hearing.ended or hearing.due for hearing in hearings) - min(hearing.due for hearing in hearings)
    at_once = [hearing.underruns(0.0) for hearing in hearings]
    waiting = [hearing.underruns(PLAYER_WAIT_S) for hearing in hearings]
    serving = {part: seconds for part, seconds in used.items() if part != "generator"}
    return {
        "door": door,
        "rate_per_s": rate,
        "requests": len(hearings),
        "in_flight": sum(hearing.whole_s or 0.0 for hearing in hearings) / span_s,
        **_percentiles("first", (hearing.first_s for hearing in complete), (50, 95, 99)),
        **_percentiles("audible", (hearing.audible_s for hearing in complete), (50, 95, 99)),
        **_percentiles("whole", (hearing.whole_s for hearing in complete), (50, 95)),
        "underruns_at_once": sum(one.count for one in at_once),
        "streams_underrun_at_once_pct": _share(at_once),
        "underruns_after_100ms": sum(one.count for one in waiting),
        "streams_underrun_after_100ms_pct": _share(waiting),
        "audio_s_per_s": audio_s / span_s,
        "refused": sum(hearing.outcome == "refused" for hearing in hearings),
        "errors": sum(hearing.outcome == "error" for hearing in hearings),
        "cpu_ms_per_audio_s": sum(serving.values()) * 1000 / audio_s if serving and audio_s else None,
        "cpu_s": dict(used),
        "error_reasons": sorted({hearing.reason for hearing in hearings if hearing.outcome == "error"})[:5],
    }


def taxes(rows: Sequence[Row]) -> list[Row]:
    """For each rate, what each door adds to the one before it; rows come with their doors in the same order."""
    found = []
    for rate in dict.fromkeys(one["rate_per_s"] for one in rows):
        for inner, outer in pairwise([one for one in rows if one["rate_per_s"] == rate]):
            tax = {column: _difference(outer.get(column), inner.get(column)) for column in _TAXED}
            found.append({"door": f"tax: {outer['door']} − {inner['door']}", "rate_per_s": rate, **tax})
    return found


def chart(title: str) -> Chart:
    """First audible sound and throughput over the rate, a line for each door."""
    x: dict[str, Any] = {"x": "rate_per_s", "x_label": "requests per second", "by": "door"}
    return Chart(
        title,
        (
            Panel("First audible sound, p50", y=("audible_p50_ms",), y_label="ms", **x),
            Panel("First audible sound, p95", y=("audible_p95_ms",), y_label="ms", **x),
            Panel("Speech made", y=("audio_s_per_s",), y_label="seconds of audio per second", **x),
        ),
    )


def percentiles_ms(seconds: Sequence[float], which: Iterable[int]) -> list[float | None]:
    """Percentiles in milliseconds; None of nothing."""
    return [float(np.percentile(seconds, each)) * 1000 if len(seconds) else None for each in which]


def _percentiles(name: str, seconds: Iterable[float | None], which: Sequence[int]) -> Row:
    values = percentiles_ms([value for value in seconds if value is not None], which)
    return {f"{name}_p{each}_ms": value for each, value in zip(which, values, strict=True)}


def _share(underruns: Sequence[Any]) -> float:
    return 100 * sum(one.count > 0 for one in underruns) / len(underruns)


def _difference(outer: Any, inner: Any) -> float | None:
    return None if outer is None or inner is None else outer - inner
