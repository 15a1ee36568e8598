"""The first door: the engine itself, in a process of its own and with nothing around it.

What the other doors take longer is the tax of what stands in them. Imports no torch: the process that loads the
servers stays small.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.serving_listener import Hearing
from benchmarks.serving_load import Request

ROOT = Path(__file__).resolve().parents[1]
VOICES = ROOT / "voices"
CONTRACT = ROOT / "model_repository" / "qwen3_tts" / "config.pbtxt"
_PARAMETER = re.compile(r'parameters \{ key: "(\w+)"\s+value: \{ string_value: "([^"]*)" \} \}')


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


def contract_parameters() -> dict[str, str]:
    """The sizes that config.pbtxt gives the engine behind Triton: the one without it must have them too."""
    return dict(_PARAMETER.findall(CONTRACT.read_text(encoding="utf-8")))


def run_engine(plan: EnginePlan, runs: Sequence[Sequence[Request]]) -> Iterator[list[Hearing]]:
    """What was heard in each of several runs, one after the other on one engine, as soon as each is over.

    Raises what was raised there, and EOFError when its process has ended.
    """
    # Its memory, that of the device above all, is free again when the process has ended.
    context = get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(plan, runs, sending))
    child.start()
    sending.close()
    try:
        for _ in runs:
            made: list[Hearing] | Exception = receiving.recv()
            if isinstance(made, Exception):
                raise made
            yield made
    finally:
        receiving.close()
        child.join()


def _run(plan: EnginePlan, runs: Sequence[Sequence[Request]], sending: Connection) -> None:
    os.environ.update(plan.environment)
    from benchmarks.serving_engine_runs import engine_runs

    try:
        for heard in engine_runs(plan, runs):
            sending.send(heard)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again where it is waited for
        sending.send(error)
