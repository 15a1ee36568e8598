"""What each process of the stack holds: memory, files, threads; and what lies in shared memory. Linux only."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving_processes import parts

SHARED = Path("/dev/shm")
SHARED_NAME = "shared memory"
_MB = 1_000_000
_PREFIX = re.compile(r"shm-region-prefix-name=([^,\s]+)")


@dataclass(frozen=True)
class Held:
    """Of one process, or of shared memory, whose files are counted as such.

    memory_mb: private pages, which nobody else has (anonymous and written ones); pss_mb: with its share of the others.
    fds, threads: how many; None where there are none by nature.
    """

    memory_mb: float
    pss_mb: float
    fds: int
    threads: int | None

    def least(self, other: Held) -> Held:
        """The lesser of each."""
        threads = None if self.threads is None or other.threads is None else min(self.threads, other.threads)
        return Held(
            min(self.memory_mb, other.memory_mb), min(self.pss_mb, other.pss_mb), min(self.fds, other.fds), threads
        )


def held() -> dict[str, Held]:
    """By name: each process of the stack this one has started, numbered where there are several, and shared memory."""
    found: dict[str, Held] = {}
    seen: Counter[str] = Counter()
    for process, part in parts().items():
        seen[part] += 1
        name = part if seen[part] == 1 else f"{part} {seen[part]}"
        found[name] = _of(Path(f"/proc/{process}"))
        if part == "triton":
            found[SHARED_NAME] = _shared(Path(f"/proc/{process}/cmdline").read_text().replace("\0", " "))
    return found


def _of(process: Path) -> Held:
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", (process / "smaps_rollup").read_text(), re.MULTILINE))
    threads = re.search(r"^Threads:\s+(\d+)$", (process / "status").read_text(), re.MULTILINE)
    assert threads is not None, "Linux tells the threads of every process"
    private = int(sizes["Pss_Anon"]) * 1024 / _MB
    return Held(private, int(sizes["Pss"]) * 1024 / _MB, len(os.listdir(process / "fd")), int(threads[1]))


def _shared(server: str) -> Held:
    prefix = _PREFIX.search(server)
    assert prefix is not None, f"the server was started without a prefix for its shared memory: {server}"
    taken = [file.stat().st_blocks * 512 / _MB for file in SHARED.glob(f"{prefix[1]}*")]
    return Held(sum(taken), sum(taken), len(taken), None)
