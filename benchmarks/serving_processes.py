"""Which processes the parts of the stack are, and how much processor time they have used, read from /proc.

Linux only; knows no benchmark.
"""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# What stands in the command line of each part, the most telling first.
_PARTS = {"triton_python_backend_stub": "model", "bin/tritonserver": "triton", "-m frontend": "frontend"}
GENERATOR = "generator"


def processor_seconds() -> dict[str, float]:
    """Seconds used so far by this process (the load generator) and, part by part, by those it has started."""
    parents, used = _table()
    seconds = {GENERATOR: used[os.getpid()]}
    for process, part in _named(parents).items():
        seconds[part] = seconds.get(part, 0.0) + used[process]
    return seconds


def parts() -> dict[int, str]:
    """The processes that this one has started and what each is of the stack; others are left out."""
    parents, _ = _table()
    return _named(parents)


def since(before: dict[str, float]) -> dict[str, float]:
    """What was used since an earlier reading."""
    return {part: seconds - before.get(part, 0.0) for part, seconds in processor_seconds().items()}


def _table() -> tuple[dict[int, int], dict[int, float]]:
    """The parent and the processor seconds of every process."""
    parents, used = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since it was listed
        parents[int(name)] = int(fields[1])
        used[int(name)] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
    return parents, used


def _named(parents: dict[int, int]) -> dict[int, str]:
    named = {process: _part(process) for process in sorted(_below(os.getpid(), parents))}
    return {process: part for process, part in named.items() if part is not None}


def _below(root: int, parents: dict[int, int]) -> set[int]:
    family = {root}
    while new := {child for child, parent in parents.items() if parent in family and child not in family}:
        family |= new
    return family - {root}


def _part(process: int) -> str | None:
    try:
        command = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((part for word, part in _PARTS.items() if word in command), None)
