"""What a profile export of perf_analyzer says about streamed speech: times, gaps and throughput. Pure.

Knows the export's JSON and the model's `info`; not how either came about.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

NANOSECONDS = 1e-9


@dataclass(frozen=True)
class Percentiles:
    """Seconds; None when there was nothing to measure."""

    p50: float | None
    p95: float | None


@dataclass(frozen=True)
class Measurement:
    """One concurrency. Times in seconds, `audio_rate` in seconds of audio made per second."""

    concurrency: int
    requests: int
    errors: int
    first_response: Percentiles
    gap: Percentiles
    request_rate: float
    audio_rate: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_export(export: Mapping[str, Any], sample_rate: int) -> Measurement:
    """The figures of an export that holds one experiment. A request without a final `info` counts as an error."""
    experiment = export["experiments"][0]
    requests = experiment["requests"]
    infos = [info for request in requests if (info := _info(request)) is not None]
    arrivals = [request["response_timestamps"] for request in requests]
    # The program's own window is longer than the work in it: it looks for its end only now and then.
    begin, end = min(request["timestamp"] for request in requests), max(times[-1] for times in arrivals)
    seconds = (end - begin) * NANOSECONDS
    gaps = [later - earlier for times in arrivals for earlier, later in itertools.pairwise(times)]
    waits = [request["response_timestamps"][0] - request["timestamp"] for request in requests]
    return Measurement(
        concurrency=experiment["experiment"]["value"],
        requests=len(requests),
        errors=len(requests) - len(infos),
        first_response=_percentiles(waits),
        gap=_percentiles(gaps),
        request_rate=len(infos) / seconds,
        audio_rate=sum(info["samples"] for info in infos) / sample_rate / seconds,
    )


def table(measurements: Sequence[Measurement]) -> str:
    """The figures as text, one line for each concurrency."""
    titles = ["concurrency", "requests", "errors", "first p50", "first p95", "gap p50", "gap p95", "audio s/s", "req/s"]
    rows = [
        [
            str(measured.concurrency),
            str(measured.requests),
            str(measured.errors),
            *(
                _milliseconds(value)
                for times in (measured.first_response, measured.gap)
                for value in (times.p50, times.p95)
            ),
            f"{measured.audio_rate:.2f}",
            f"{measured.request_rate:.2f}",
        ]
        for measured in measurements
    ]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in [titles, *rows])


def _info(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    last = request["response_outputs"][-1].get("info") if request["response_outputs"] else None
    return json.loads(last) if last else None


def _percentiles(nanoseconds: Sequence[int]) -> Percentiles:
    return Percentiles(_nearest_rank(nanoseconds, 0.50), _nearest_rank(nanoseconds, 0.95))


def _nearest_rank(nanoseconds: Sequence[int], share: float) -> float | None:
    if not nanoseconds:
        return None
    return sorted(nanoseconds)[math.ceil(share * len(nanoseconds)) - 1] * NANOSECONDS


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"
