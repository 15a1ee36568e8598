"""The soak: it runs, everybody in its crowd does something, and what is kept, or not documented, is called by name."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.soak_crowd import BEHAVIOURS, act
from benchmarks.soak_processes import SHARED_NAME, Held
from benchmarks.soak_rest import IN_FLIGHT, Rest, in_flight
from benchmarks.soak_tally import Places, Tally, Unexpected, Visit
from benchmarks.soak_verdict import COLUMNS, JUDGED_RESTS, complaints, rows, slopes
from tests.benchmarks.conftest import Left

PARTS = ("triton", "model", "frontend")


@pytest.mark.stack
def test_a_smoke_run_does_everything_once_and_leaves_nothing(tmp_path: Path, left: Left) -> None:
    status = soak.main(["--smoke", "--out", str(tmp_path)])
    kept = left(tmp_path)
    facts = kept["rows"][0]
    assert facts["verdict"] == [], facts["verdict"]
    assert status == 0
    counts = facts["counts"]
    assert counts["visits"] >= len(BEHAVIOURS)
    for kind in ("complete", "cancels", "drops", "mistakes", "live", "recordings", "voices added", "deaf spells"):
        assert counts[kind] > 0, f"nobody did or met {kind}"
    assert {row["process"] for row in kept["rows"]} == {*PARTS, SHARED_NAME}
    assert {row["rest"] for row in kept["rows"]} == {0, 1}
    assert all(row["memory_mb"] > 0 for row in kept["rows"])


def run(
    memory: Sequence[float], *, fds: Sequence[int] | None = None, threads: int = 9, utterances: int = 1000
) -> list[Rest]:
    """The rests of a run in which each process held so much at each, with so many utterances between two."""
    fds = fds or [20] * len(memory)
    rests = []
    for number, (mb, files) in enumerate(zip(memory, fds, strict=True)):
        one = {name: Held(mb, mb, files, threads) for name in PARTS} | {SHARED_NAME: Held(1.0, 1.0, 1, None)}
        rests.append(Rest(number * utterances, 60.0 * number, one, {}, 8.0, 0.1))
    return rests


def test_memory_that_settles_is_no_leak() -> None:
    settled = run([300.0, 420.0, 424.0, 421.0, 425.0, 422.0, 423.0])
    assert complaints(settled) == []
    assert slopes(settled)["model"] == pytest.approx(0.5, abs=0.5)


def test_memory_that_grows_with_the_utterances_is_a_leak_of_every_process_that_does() -> None:
    said = complaints(run([300.0, *np.arange(420.0, 441.0, 3.0)]))
    assert [line.split()[0] for line in said] == ["frontend", "model", "triton"]
    assert said[1] == "model gains 3.00 MB with 1,000 utterances; the bound is 2"


def test_a_run_too_short_to_judge_growth_is_not_judged() -> None:
    assert slopes(run([300.0, *[420.0, 460.0] * (JUDGED_RESTS // 2)])) == {}
    assert slopes(run([300.0, *range(420, 500, 10)], utterances=100)) == {}


def test_files_that_are_never_closed_are_found_and_pools_that_fill_are_not() -> None:
    memory = [300.0] * 9
    assert complaints(run(memory, fds=[10, 20, 22, 21, 23, 22, 24, 23, 22])) == []
    [said, *_] = complaints(run(memory, fds=[10, *range(20, 60, 5)]))
    assert said == "triton has [40, 45, 50, 55] open files at the later rests, [20, 25, 30, 35] at the earlier"


def test_what_has_not_ended_at_a_rest_is_named_and_so_is_a_process_that_was_replaced() -> None:
    first, second = run([300.0, 300.0])
    still = Rest(1000, 60.0, {"triton": first.held["triton"]}, {"tts_active_utterances": 2.0}, 7.0, 60.0)
    assert complaints([first, second]) == []
    said = complaints([first, still])
    assert said[:2] == ["rest 1: tts_active_utterances is still 2", "rest 1: 7 slots, 8 at the start"]
    assert said[2] == "rest 1: the processes are ['triton']"


def test_only_work_under_way_counts_as_in_flight() -> None:
    idle = dict.fromkeys(IN_FLIGHT, 0.0)
    assert in_flight({**idle, "tts_slots": 8.0}) == {}
    assert in_flight({**idle, "tts_slots": 8.0, "frontend_connections": 1.0}) == {"frontend_connections": 1.0}


def test_every_rest_of_every_process_is_in_the_table_and_its_growth_below() -> None:
    table = rows(run([300.0] * 8))
    assert len(table) == 8 * 4 + 4
    assert set(COLUMNS) == {key for row in table for key in row}
    assert [row["process"] for row in table if row["rest"] == "growth"] == ["frontend", "model", SHARED_NAME, "triton"]


async def test_whatever_a_client_meets_that_is_not_documented_is_counted_by_name() -> None:
    async def disappointed(visit: Visit) -> None:
        raise Unexpected("silence")

    async def unlucky(visit: Visit) -> None:
        raise ConnectionResetError("gone")

    visit = Visit(Places("", "", "", ""), random.Random(1), Tally())
    for behaviour in (disappointed, disappointed, unlucky):
        await act(behaviour, visit)
    assert visit.tally.unexpected == {"disappointed: silence": 2, "unlucky: ConnectionResetError: gone": 1}
    assert visit.tally.counts["visits"] == 3
