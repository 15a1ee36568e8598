"""The first door: the engine itself, in a process of its own and with nothing around it.

What the other doors take longer is the tax of what stands in them. Imports no torch: the process that loads the
servers stays small.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from benchmarks.serving_listener import Hearing
from benchmarks.serving_load import Request


@dataclass(frozen=True)
class EnginePlan:
    """What the engine is to be. parameters: those of config.pbtxt that differ; environment: set before it loads."""

    checkpoint: Path
    voices: Path
    instant: bool
    device: str
    dtype: str
    parameters: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def run_engine(plan: EnginePlan, runs: Sequence[Sequence[Request]]) -> list[list[Hearing]]:
    """What was heard in each of several runs, one after the other on one engine."""
    # Its memory, that of the device above all, is free again when the process has ended.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        return child.submit(_run, plan, runs).result()


def _run(plan: EnginePlan, runs: Sequence[Sequence[Request]]) -> list[list[Hearing]]:
    os.environ.update(plan.environment)
    from benchmarks.serving_engine_runs import engine_runs

    return engine_runs(plan, runs)
