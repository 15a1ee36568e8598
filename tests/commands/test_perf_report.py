"""The figures that are read from a profile export."""

import json
from typing import Any

import pytest

from commands.perf_report import Percentiles, read_export, table

SECOND = 1_000_000_000


def a_request(asked: float, arrivals: list[float], info: dict[str, Any] | None) -> dict[str, Any]:
    outputs: list[dict[str, str]] = [{"audio": "[0]"} for _ in arrivals]
    if info is not None:
        outputs[-1]["info"] = json.dumps(info)
    return {
        "timestamp": int(asked * SECOND),
        "response_timestamps": [int(arrival * SECOND) for arrival in arrivals],
        "response_outputs": outputs,
    }


def an_export(requests: list[dict[str, Any]]) -> dict[str, Any]:
    experiment = {
        "experiment": {"mode": "concurrency", "value": 2},
        "requests": requests,
    }
    return {"experiments": [experiment]}


def test_times_gaps_and_rates_are_read_from_the_responses() -> None:
    requests = [
        a_request(0.0, [0.5, 0.75, 1.0], {"samples": 24_000}),
        a_request(1.0, [2.0, 2.5], {"samples": 48_000}),
    ]
    measured = read_export(an_export(requests), 24_000)
    assert (measured.concurrency, measured.requests, measured.errors) == (2, 2, 0)
    assert measured.first_response == Percentiles(pytest.approx(0.5), pytest.approx(1.0))
    assert measured.gap == Percentiles(pytest.approx(0.25), pytest.approx(0.5))
    assert measured.request_rate == pytest.approx(0.8)
    assert measured.audio_rate == pytest.approx(1.2)


def test_a_request_without_a_last_word_is_an_error() -> None:
    requests = [a_request(0.0, [0.5], {"samples": 1920}), a_request(0.0, [0.5], None)]
    assert read_export(an_export(requests), 24_000).errors == 1


def test_a_single_response_has_no_gap() -> None:
    measured = read_export(an_export([a_request(0.0, [0.5], {"samples": 1920})]), 24_000)
    assert measured.gap == Percentiles(None, None)
    assert " - " in table([measured])


def test_the_table_has_a_line_for_each_concurrency() -> None:
    measured = read_export(an_export([a_request(0.0, [0.5], {"samples": 1920})]), 24_000)
    lines = table([measured, measured]).splitlines()
    assert len(lines) == 3
    assert "500.0 ms" in lines[1]
