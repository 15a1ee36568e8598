"""How many threads a CPU engine computes with."""

import os
from pathlib import Path

import pytest

from tts_engine import SettingsError
from tts_engine.threads import threads_named, usable_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (4, 4), (5, 4), (64, 63)])
def test_auto_leaves_a_core_to_the_others_where_there_are_many(cores: int, threads: int) -> None:
    assert threads_named("auto", cores) == threads


def test_a_number_is_taken_as_it_is() -> None:
    assert threads_named("3", 64) == 3


@pytest.mark.parametrize("name", ["0", "-1", "two", "", "1.5", "²"])
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="threads must be auto or a whole number above 0, got"):
        threads_named(name, 4)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", CORES), ("100000 100000", 1), ("150000 100000", 1), ("50000 100000", 1), ("6400000 100000", CORES)],
)
def test_a_containers_quota_bounds_them(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", CORES), ("100000", 1)])
def test_so_does_one_told_in_the_old_way(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == cores


def test_without_a_container_all_cores_of_the_process_are_used(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == CORES
