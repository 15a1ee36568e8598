"""`python -m benchmarks.serving`: open-loop load on the engine, on Triton and on the WebSocket, one after the other.

Reads the options and brings the parts together; load, doors and figures stand in serving_*.py. It starts real servers
itself, or loads those it is pointed at.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import serving_report as report
from benchmarks.results import Results, Row, keep, write
from benchmarks.serving_engine import ROOT, VOICES, EnginePlan, contract_parameters, run_engine
from benchmarks.serving_load import poisson
from benchmarks.serving_texts import sentences
from commands import CommandFailed

DOORS = ("engine", "triton", "websocket", "websocket-v1")
SIZES = {"smoke": ((4.0,), 1.5), "quick": ((0.5, 1.0), 20.0), "full": ((1.0, 4.0, 10.0, 20.0), 30.0)}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="Open-loop load on the server.")
    parser.add_argument("--model", default="demo", help="a checkpoint directory or demo (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16 (default: %(default)s)")
    parser.add_argument("--rates", type=_rates, help="requests per second, comma-separated")
    parser.add_argument("--seconds", type=float, help="how long each rate is kept up")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule and the texts (default: %(default)s)")
    parser.add_argument("--doors", type=_doors, default=DOORS[:3], help=f"of {', '.join(DOORS)}, comma-separated")
    parser.add_argument("--slots", type=int, help="utterances that run together (default: as config.pbtxt says)")
    parser.add_argument("--instant", action="store_true", help="frames of a tone in place of the networks")
    parser.add_argument("--pace", default="none", help="of --instant: none, real, or how many times as fast as real")
    parser.add_argument("--triton", help="HOST:PORT of a running Triton to load, instead of starting one")
    parser.add_argument("--websocket", help="URL of a running frontend to load, instead of starting one")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="two rates, 20 s each")
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke", help="seconds: only that it runs")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "benchmarks", help="folder of the results")
    options = parser.parse_args(arguments)
    rates, seconds = SIZES[options.size or "full"]
    options.rates, options.seconds = options.rates or rates, options.seconds or seconds
    if options.triton or options.websocket:
        running = {"triton": options.triton, "websocket": options.websocket, "websocket-v1": options.websocket}
        options.doors = tuple(door for door in options.doors if running.get(door))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 when a server cannot be started."""
    options = parse(arguments)
    rows: list[Row] = []

    def told(row: Row) -> Row:
        rows.append(_told(row))
        keep(_results(options, rows), options.out, chart)  # a run may be stopped at any rate
        return row

    chart = report.chart("Open-loop load, frames made at once" if options.instant else "Open-loop load")
    try:
        with tempfile.TemporaryDirectory(prefix="qwen3-tts-") as workspace:
            measure(options, Path(workspace), told)
    except CommandFailed as failure:
        print(f"serving: {failure}", file=sys.stderr)
        return 1
    print(*write(_results(options, rows), options.out, chart), sep="\n")
    return 0


def _results(options: argparse.Namespace, rows: list[Row]) -> Results:
    name = "serving-instant" if options.instant else "serving"
    settings = {key: value for key, value in vars(options).items() if key != "out" and value is not None}
    return Results(name, settings, report.COLUMNS, [*rows, *report.taxes(rows)], report.NOTES)


def measure(options: argparse.Namespace, workspace: Path, told: Callable[[Row], Row]) -> None:
    """A row for each door and rate, the engine's door first, goes to `told` when it is there. Raises CommandFailed."""
    runs = [poisson(rate, options.seconds, options.seed, sentences()) for rate in options.rates]
    parameters = {} if options.slots is None else {"slots": str(options.slots)}
    environment = {"BENCHMARK_PACE": pace(options.pace)}
    pointed = options.triton or options.websocket
    checkpoint = Path() if pointed else _checkpoint(options.model, workspace)
    if "engine" in options.doors:
        sizes = {**contract_parameters(), **parameters}
        plan = EnginePlan(checkpoint, VOICES, options.instant, options.device, options.dtype, sizes, environment)
        for rate, hearings in zip(options.rates, run_engine(plan, runs), strict=True):
            told(report.row("engine", rate, hearings, {}))
    doors = tuple(door for door in options.doors if door != "engine")
    if doors:
        # What a server and its clients are made of need not be there for the engine's door alone.
        from benchmarks.serving_runs import Load, load_servers
        from benchmarks.serving_servers import Addresses, Served

        environment |= {"QWEN3_TTS_DEVICE": options.device, "QWEN3_TTS_DTYPE": options.dtype}
        target: Addresses | Served = Served(checkpoint, options.instant, parameters, environment)
        if pointed:
            target = Addresses(options.triton or "", options.websocket or "")
        asyncio.run(load_servers(target, Load(doors, options.rates, runs), workspace, told))


def _checkpoint(model: str, workspace: Path) -> Path:
    """The directory of that name, or what scripts/serve would take for it. Raises CommandFailed."""
    if Path(model).is_dir():
        return Path(model).resolve()
    if model == "demo":
        # In a process of its own, since what makes it imports torch and this one generates the load.
        subprocess.run([sys.executable, "-m", "commands.demo_checkpoint", str(workspace / "demo")], check=True)
        return workspace / "demo"
    from commands.checkpoint import choose_checkpoint

    return choose_checkpoint(model, os.environ, ROOT / "models", workspace).directory


def pace(given: str) -> str:
    """The value of BENCHMARK_PACE for `none`, `real` or a factor. Raises ValueError."""
    return {"none": "0", "real": "1"}.get(given) or str(float(given))


def _told(row: Row) -> Row:
    """Says on the way how far it has come."""
    shown = ", ".join(f"{key} {_brief(row[key])}" for key in ("audible_p50_ms", "audible_p95_ms", "refused", "errors"))
    print(f"{row['door']} at {row['rate_per_s']:g}/s: {shown}", flush=True)
    return row


def _brief(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _rates(text: str) -> tuple[float, ...]:
    rates = tuple(float(part) for part in text.split(","))
    if min(rates) <= 0:
        raise argparse.ArgumentTypeError(f"rates must be above 0, got {text}")
    return rates


def _doors(text: str) -> tuple[str, ...]:
    wanted = text.split(",")
    unknown = sorted(set(wanted) - set(DOORS))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown door {', '.join(unknown)}; there are {', '.join(DOORS)}")
    return tuple(door for door in DOORS if door in wanted)


if __name__ == "__main__":
    sys.exit(main())
