"""Which machine a figure was measured on, and with which versions. Knows no benchmark."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ABSENT = "not installed"

# What can change a figure. Triton comes as a Python package; in NVIDIA's container it names itself in the environment.
_PACKAGES = ("torch", "triton", "numpy", "nvidia-pytriton", "tritonclient", "transformers", "qwen-tts", "hypercorn")
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_vnni", "sve", "bf16")


@dataclass(frozen=True)
class Machine:
    """One computer. cores: those this process may use. memory: GiB. gpus: one line each, with memory and driver."""

    cpu: str
    cores: int
    instructions: tuple[str, ...]
    memory_gib: float
    system: str
    gpus: tuple[str, ...]
    driver: str | None

    @classmethod
    def here(cls) -> Machine:
        """The machine this process runs on."""
        gpus, driver = _gpus()
        cpu, flags = _processor()
        return cls(
            cpu=cpu,
            cores=len(os.sched_getaffinity(0)),
            instructions=tuple(name for name in _INSTRUCTIONS if name in flags),
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            system=platform.platform(terse=True),
            gpus=gpus,
            driver=driver,
        )

    def __str__(self) -> str:
        devices = ", ".join(self.gpus) or "no GPU"
        return f"{devices}; {self.cpu}, {self.cores} cores, {self.memory_gib:g} GiB"


def versions() -> dict[str, str]:
    """Name and version of everything a figure may depend on; what is not there says so."""
    found = {"python": platform.python_version(), "project": _commit()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ABSENT
    if (torch := sys.modules.get("torch")) is not None:  # its own word carries the build, as in 2.13.0+cu130
        found["torch"] = str(torch.__version__)
    if (container := os.environ.get("TRITON_SERVER_VERSION")) is not None:
        found["tritonserver"] = container
    return found


def _processor() -> tuple[str, frozenset[str]]:
    """The processor's name and the instruction sets it says it has."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.machine(), frozenset(flags.split())


def _gpus() -> tuple[tuple[str, ...], str | None]:
    """Each GPU with its memory, and the driver, as nvidia-smi tells."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return (), None
    rows = [[cell.strip() for cell in row] for row in csv.reader(told.splitlines()) if len(row) == 3]
    return tuple(f"{name} ({memory})" for name, memory, _ in rows), rows[0][2] if rows else None


def _commit() -> str:
    """The commit that is checked out, with a word on what has changed since."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit} with changes" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("PROJECT_COMMIT", "unknown")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
