"""How many threads a CPU engine computes with."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.conftest import Demo
from tests.engine.sounds import hum
from tts_engine import Engine, EngineConfig, SettingsError
from tts_engine.manifests import Reference
from tts_engine.threads import on_passing_thread, threads_named, usable_cores

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


@pytest.mark.parametrize(
    ("module", "said", "policy", "spins"),
    [
        ("tts_engine", {}, "PASSIVE", "2000"),
        ("benchmarks.engine", {}, "PASSIVE", "2000"),
        ("tts_engine", {"GOMP_SPINCOUNT": "70"}, "PASSIVE", "70"),
        ("tts_engine", {"OMP_WAIT_POLICY": "active"}, "ACTIVE", "30000000000"),
    ],
)
def test_threads_wait_awake_for_a_moment_only_unless_told_otherwise(
    module: str, said: dict[str, str], policy: str, spins: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_DISPLAY_ENV": "verbose", **said}
    told = subprocess.run(
        [sys.executable, "-P", "-c", f"import {module}"], env=environment, capture_output=True, text=True, check=True
    ).stderr
    assert f"OMP_WAIT_POLICY = '{policy}'" in told
    assert f"GOMP_SPINCOUNT = '{spins}'" in told


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def team_members() -> int:
    """Threads of this process that Python has not started."""
    return len(os.listdir("/proc/self/task")) - threading.active_count()


def assert_back_to(members: int) -> None:
    deadline = time.monotonic() + 10
    while team_members() > members:
        assert time.monotonic() < deadline, f"{team_members()} threads of teams, {members} before"
        time.sleep(0.01)


@pytest.mark.usefixtures("two_threads")
def test_what_computes_on_a_passing_thread_leaves_no_team_behind() -> None:
    def compute() -> int:
        torch.randn(1 << 20).sin_().sum()
        return team_members()

    before = team_members()
    assert on_passing_thread(compute) > before, "it had a team"
    assert_back_to(before)
    with pytest.raises(ZeroDivisionError):
        on_passing_thread(lambda: 1 // 0)


@pytest.mark.usefixtures("two_threads")
def test_loading_and_encoding_leave_no_team_beside_the_engines_own(demo: Demo) -> None:
    checkpoint, recording = demo(model_type="base"), Reference.of(hum(2.0), 24_000, "Some words.")
    before = team_members()
    with ThreadPoolExecutor(1) as lasting:  # one that has no team yet, and would keep it as long as it lives
        engine = lasting.submit(
            lambda: Engine.load(checkpoint, EngineConfig(slots=2), None, device="cpu", threads="2")
        ).result()
        assert engine._encoder is not None
        engine._encoder.encode(recording).result()
        assert_back_to(before)
    engine._encoder.close()
