"""How many threads a CPU engine computes with: what this process may really use, not what the machine has.

In a container torch sees all cores of its host, and threads beyond the share it is given stand in each other's way.
So do those that torch keeps for every thread that has ever computed: see `on_passing_thread`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from .errors import SettingsError

Made = TypeVar("Made")

_CGROUP = Path("/sys/fs/cgroup")
# With more cores than this one is left to Triton, its stub's other threads and the frontend.
_ALL_COMPUTE = 4


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Whole cores this process may use at once: its affinity, and its container's quota (cgroup v1 or v2)."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, int(quota)))


def threads_named(name: str, cores: int) -> int:
    """`auto` is all of `cores`, but for one where there are more than four; else a whole number above 0.

    Raises SettingsError for anything else.
    """
    if name == "auto":
        return cores if cores <= _ALL_COMPUTE else cores - 1
    if not name.isascii() or not name.isdigit() or int(name) == 0:
        raise SettingsError(f"threads must be auto or a whole number above 0, got {name!r}")
    return int(name)


def on_passing_thread(work: Callable[[], Made]) -> Made:
    """What `work` returns or raises, done by a thread that has ended by then.

    OpenMP, by which torch computes on a CPU, gives each thread that does so a team of its own for life. Once there are
    more of them than cores, even if all but one team rest, none waits awake for its next piece of work any more (GNU's
    does so for none when it counts more threads than processors), and a frame step has hundreds of such pieces. A team
    ends with its thread, so all that computes beside the engine's own thread has to pass.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="tts-passing") as passing:
        return passing.submit(work).result()


def _quota(cgroup: Path) -> float | None:
    """Cores a container may use, as its share of time; None where nothing bounds it."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)
