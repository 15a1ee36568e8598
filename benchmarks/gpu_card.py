"""Whether a card does what the engine stands on, from the plainest to the whole step: where it breaks is then known.

    python3 -m benchmarks.gpu_card [--model DIR | --full-size 0.6b] [--device cuda] [--out DIR]

Each check is tried whatever became of those before it, and what it came to is printed and kept at once. Those of our
kernels come last, since a program that is lost on a card can take the card from its process. `kernels` among the
settings of card.json says whether they may be used from here on: `on` once all of theirs have passed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tts_engine  # before torch, as in the server: it says how long torch's threads wait awake

# isort: split
import torch

from benchmarks import checkpoints, gpu_basics, gpu_steps
from benchmarks.charts import Chart, Panel
from benchmarks.results import Results, keep
from benchmarks.tables import Row
from tts_engine.devices import device_named

COLUMNS = ("check", "outcome", "took_s", "told")
_LONGEST = 200


@dataclass(frozen=True)
class Check:
    """run tells in a few words what it saw, and raises where that is not what it should be."""

    name: str
    run: Callable[[], str]
    of_kernels: bool = False


def checks(device: torch.device, folder: Path) -> Iterator[Check]:
    """All that can be tried on a device, with the checkpoint in `folder`."""
    yield Check("device", lambda: gpu_basics.described(device))
    yield Check("product", lambda: gpu_basics.product(device))
    yield Check("convolution", lambda: gpu_basics.convolution(device))
    yield Check("attention", lambda: gpu_basics.attention(device))
    if device.type == "cuda":
        yield Check("results through pinned memory", lambda: gpu_basics.landing(device))
        yield Check("graphs in one pool", lambda: gpu_basics.graphs(device))
    steps = gpu_steps.Compared(device, folder)
    yield Check("frame step", steps.plain)
    if device.type == "cuda":
        yield Check("one kernel", lambda: gpu_basics.one_kernel(device), of_kernels=True)
        yield Check("frame step by kernels", steps.by_kernels, of_kernels=True)
        yield Check("frame step by kernels, bfloat16", steps.by_kernels_in_bfloat16, of_kernels=True)


def tried(check: Check) -> Row:
    """What a check came to."""
    start = time.monotonic()
    try:
        outcome, told = "passed", check.run()
    except Exception as error:  # noqa: BLE001 - a driver's, a compiler's, a library's: whatever it is, it is the answer
        outcome, told = "failed", f"{type(error).__name__}: {error}"
    told = " ".join(told.split())[:_LONGEST]
    return {"check": check.name, "outcome": outcome, "took_s": time.monotonic() - start, "told": told}


def results(device: torch.device, planned: list[Check], rows: list[Row]) -> Results:
    """What is known so far. A kernel that has not been tried may not be used."""
    passed = {row["check"] for row in rows if row["outcome"] == "passed"}
    ours = {check.name for check in planned if check.of_kernels}
    verdict = ("on" if ours <= passed else "off") if ours else "none"
    return Results("card", {"device": str(device), "kernels": verdict}, COLUMNS, rows)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmark card", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    checkpoints.add_options(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks"), help="folder of the results")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Try everything; 0 when all passed, 1 when something failed, 2 when nothing could be tried."""
    options = _arguments(arguments)
    chart = Chart("What a card can do", (Panel("checks", "check", ("took_s",), "check", "time (s)", "bars"),))
    rows: list[Row] = []
    try:
        device = device_named(options.device)
        with checkpoints.chosen(options, device) as measured:
            planned = list(checks(device, measured.folder))
            for check in planned:
                rows.append(tried(check))
                print(*(rows[-1][column] for column in ("outcome", "check", "told")), sep="; ", flush=True)
                keep(results(device, planned, rows), options.out, chart)
    except tts_engine.LoadError as error:
        print(f"benchmark card: {error}", file=sys.stderr)
        return 2
    return int(any(row["outcome"] == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
