"""`python -m benchmarks.streams`: many listeners at once on one frontend, each hearing speech made in real time.

Says how much later than its playback time each message came, and how long a cancel takes from the client's sending it
to the engine's being told. The engine makes frames of a tone in step, one each 80 ms for everybody, and each is a
message of its own, so that all fall due together: the hardest case. Load and figures only; the parts stand in
serving_*.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.charts import Chart, Panel
from benchmarks.results import Results, Row, write
from benchmarks.serving import pace
from benchmarks.serving_doors import SpeakSocket
from benchmarks.serving_engine import ROOT
from benchmarks.serving_listener import Hearing
from benchmarks.serving_processes import GENERATOR, processor_seconds, since
from benchmarks.serving_report import percentiles_ms
from benchmarks.serving_servers import Served, servers
from benchmarks.serving_texts import long_text
from commands import CommandFailed
from commands.checkpoint import make_demo

COLUMNS = (
    "streams",
    "messages",
    "late_p50_ms",
    "late_p99_ms",
    "late_max_ms",
    "later_than_80ms",
    "cancels",
    "cancel_p50_ms",
    "cancel_p95_ms",
    "cancel_max_ms",
    "errors",
    "frontend_cpu_pct",
    "model_cpu_pct",
    "triton_cpu_pct",
    "generator_cpu_pct",
)
NOTES = (
    "*late*: how much later a message came than a player needed it that began with the first one and never stopped. "
    "*cancel*: from the client's sending it to the engine's being told, on one clock. *cpu*: of one core.",
)
TEXT_CHARACTERS = 600
"""Longer to speak than anybody listens before the next cancel."""
LISTEN_S = (5.0, 20.0)
SIZES = {"smoke": ("4", 3.0), "quick": ("200", 20.0), "full": ("50,100,200,300", 30.0)}
PATIENCE_S = 2.0


@dataclass
class _Heard:
    """What all listeners of a run have heard: lateness in seconds, when each cancel left by seed, what went wrong."""

    late: list[float] = field(default_factory=list)
    cancelled: dict[int, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description="Many real-time listeners.")
    parser.add_argument("--streams", help="how many at once, comma-separated")
    parser.add_argument("--seconds", type=float, help="how long each is measured")
    parser.add_argument("--pace", default="real", help="of the engine: real or how many times as fast")
    parser.add_argument("--version", type=int, choices=(1, 2), default=2, help="of the protocol (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="200 listeners for 20 s")
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke", help="seconds: only that it runs")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "benchmarks", help="folder of the results")
    options = parser.parse_args(arguments)
    streams, seconds = SIZES[options.size or "full"]
    options.streams, options.seconds = options.streams or streams, options.seconds or seconds
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 when a server cannot be started."""
    options = parse(arguments)
    counts = [int(count) for count in options.streams.split(",")]
    try:
        with tempfile.TemporaryDirectory(prefix="qwen3-tts-") as workspace:
            rows = asyncio.run(_measure(options, counts, Path(workspace)))
    except CommandFailed as failure:
        print(f"streams: {failure}", file=sys.stderr)
        return 1
    settings = {key: value for key, value in vars(options).items() if key != "out" and value is not None}
    print(*write(Results("streams", settings, COLUMNS, rows, NOTES), options.out, _chart()), sep="\n")
    return 0


async def _measure(options: argparse.Namespace, counts: Sequence[int], workspace: Path) -> list[Row]:
    notes = workspace / "cancels.jsonl"
    served = Served(
        make_demo(workspace),
        instant=True,
        # One segment each: a seam costs a step, which only an engine that is no faster than real time would miss.
        parameters={"slots": str(max(counts) + 8), "segment_tokens": "4000"},
        environment={
            "BENCHMARK_PACE": pace(options.pace),
            "BENCHMARK_LARGEST_CHUNK": "1",
            "BENCHMARK_CANCELS": str(notes),
        },
    )
    rows = []
    async with servers(served, workspace) as addresses:
        for count in counts:
            notes.write_text("")
            sockets = [await SpeakSocket.open(addresses.websocket, options.version) for _ in range(count)]
            heard, used = await _listen(sockets, options)
            for socket in sockets:
                socket.close()
            rows.append(_row(count, options.seconds, heard, await _told_engine(notes, heard), used))
            print(json.dumps(rows[-1]), flush=True)
    return rows


async def _listen(sockets: Sequence[SpeakSocket], options: argparse.Namespace) -> tuple[_Heard, dict[str, float]]:
    """All sockets are spoken to; measured once each has begun."""
    heard, stop = _Heard(), asyncio.Event()
    drawn = random.Random(options.seed)
    listening = []
    for number, socket in enumerate(sockets):
        listening.append(asyncio.create_task(_listener(socket, number, random.Random(drawn.random()), heard, stop)))
        await asyncio.sleep(0.01)  # nobody's listeners all come at the same moment
    before = processor_seconds()
    await asyncio.sleep(options.seconds)
    used = since(before)
    stop.set()
    await asyncio.gather(*listening)
    return heard, used


async def _listener(socket: SpeakSocket, number: int, drawn: random.Random, heard: _Heard, stop: asyncio.Event) -> None:
    """Hears an utterance for a while, cancels it and asks for the next, until it is told to stop."""
    while not stop.is_set():
        seed = drawn.getrandbits(32)
        hearing = Hearing(due=time.monotonic())
        speaking = asyncio.create_task(socket.speak(long_text(TEXT_CHARACTERS, number), seed, hearing))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({speaking, stopped}, timeout=drawn.uniform(*LISTEN_S), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not speaking.done():
            if not stop.is_set():  # that they all stop at one moment is no part of the load
                heard.cancelled[seed] = time.monotonic()
            socket.cancel()
        await speaking
        heard.late += hearing.lateness()
        if hearing.outcome not in ("complete", "cancelled"):
            heard.errors.append(hearing.reason)
            return


async def _told_engine(notes: Path, heard: _Heard) -> dict[int, float]:
    """When the engine was told of the cancel of each seed; waits a while for those it has not been told of yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        told = _noted(notes)
        if heard.cancelled.keys() <= told.keys() or time.monotonic() > deadline:
            return told
        await asyncio.sleep(0.05)


def _noted(notes: Path) -> dict[int, float]:
    return {note["seed"]: note["at"] for note in map(json.loads, notes.read_text().splitlines())}


def _row(count: int, seconds: float, heard: _Heard, told: dict[int, float], used: dict[str, float]) -> Row:
    late_p50, late_p99, late_max = percentiles_ms(heard.late, (50, 99, 100))
    taken = [told[seed] - sent for seed, sent in heard.cancelled.items() if seed in told]
    cancel_p50, cancel_p95, cancel_max = percentiles_ms(taken, (50, 95, 100))
    parts = ("frontend", "model", "triton", GENERATOR)
    return {
        "streams": count,
        "messages": len(heard.late),
        "late_p50_ms": late_p50,
        "late_p99_ms": late_p99,
        "late_max_ms": late_max,
        "later_than_80ms": sum(late > 0.08 for late in heard.late),
        "cancels": len(heard.cancelled),
        "cancels_unseen": len(heard.cancelled) - len(taken),
        "cancel_p50_ms": cancel_p50,
        "cancel_p95_ms": cancel_p95,
        "cancel_max_ms": cancel_max,
        "errors": len(heard.errors),
        "error_reasons": sorted(set(heard.errors))[:5],
        **{f"{part}_cpu_pct": 100 * used.get(part, 0.0) / seconds for part in parts},
    }


def _chart() -> Chart:
    x: dict[str, Any] = {"x": "streams", "x_label": "listeners at once"}
    load = ("frontend_cpu_pct", "model_cpu_pct", "triton_cpu_pct", "generator_cpu_pct")
    return Chart(
        "Real-time listeners on one frontend",
        (
            Panel("Lateness", y=("late_p99_ms", "late_max_ms"), y_label="ms", line=(80.0, "a frame"), **x),
            Panel("Cancel, until the engine is told", y=("cancel_p50_ms", "cancel_p95_ms"), y_label="ms", **x),
            Panel("Processor time", y=load, y_label="% of one core", **x),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
