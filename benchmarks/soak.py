"""`python -m benchmarks.soak`: hours of hard use in minutes, and whether anything is left behind.

A crowd of clients speaks, cancels, vanishes, stops reading, sends nonsense and changes voices, on the real stack with
the tiny demo checkpoint. It pauses several times; then nothing may be in flight and every slot be free, and memory,
files, threads and shared memory may not have grown. Ends with status 1 when something has, or when a server did what
is not documented. The parts stand in soak_*.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.charts import Chart, Panel
from benchmarks.results import Results, write
from benchmarks.serving_engine import ROOT, VOICES
from benchmarks.serving_processes import processor_seconds
from benchmarks.serving_servers import Served, servers
from benchmarks.soak_crowd import Crowd, named
from benchmarks.soak_processes import held
from benchmarks.soak_rest import FRAMES, Gauges, Rest, at_rest, in_flight
from benchmarks.soak_tally import Places, Tally
from benchmarks.soak_verdict import BOUNDS, COLUMNS, JUDGED_RESTS, complaints, rows, slopes
from commands import CommandFailed
from commands.checkpoint import make_demo
from commands.ports import free_ports
from frontend.api_keys import Scope, entry, make_key

SIZES = {"smoke": (0.05, 1, 13), "full": (20.0, 8, 24)}
"""Minutes, spells of the crowd with a rest behind each, clients."""
# Small enough that every cache is full long before the first spell is over, and that the crowd is sometimes too many.
PARAMETERS = {
    "slots": "8",
    "max_waiting": "24",
    "parked_mb": "32",
    "voice_cache_mb": "4",
    "prefix_cache_mb": "1",
    "text_idle_seconds": "2",
}
ENVIRONMENT = {
    "QWEN3_TTS_DEVICE": "cpu",
    "QWEN3_TTS_DTYPE": "float32",
    "QWEN3_TTS_THREADS": "1",
    # Filled within the first spell, as the caches above are: at its own 1,024 it would look like a leak for an hour.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
}
SAMPLE_S, REST_WITHIN_S = 5.0, 60.0
NOTES = (
    "*memory*: pages that are the process's alone; of shared memory, what its files take. *growth*: its slope over all "
    "rests but the first, in MB for each 1,000 utterances.",
)


@dataclass
class Course:
    """What came of a soak so far."""

    began: float = field(default_factory=time.monotonic)
    tally: Tally = field(default_factory=Tally)
    rests: list[Rest] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Hard use for long: what is left?")
    parser.add_argument("--minutes", type=float, help="how long the crowd is there (20)")
    parser.add_argument(
        "--rests", type=int, help=f"how often it pauses (8; {JUDGED_RESTS + 1} are needed for a verdict)"
    )
    parser.add_argument("--clients", type=int, help="how many at a time (24)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--only", default="", help="some of what clients do, comma-separated, to find who does it")
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke", help="seconds: only that it runs")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "benchmarks", help="folder of the results")
    options = parser.parse_args(arguments)
    minutes, rests, clients = SIZES[options.size or "full"]
    options.minutes, options.rests = options.minutes or minutes, options.rests or rests
    options.clients = options.clients or clients
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 when a server cannot be started, has kept something, or did what is not documented."""
    options = parse(arguments)
    course = Course()
    try:
        with tempfile.TemporaryDirectory(prefix="qwen3-tts-") as folder, _log_kept(Path(folder), options.out):
            asyncio.run(_run(options, course, Path(folder)))
    except CommandFailed as failure:
        print(f"soak: {failure}", file=sys.stderr)
        return 1
    said = _verdict(course)
    settings = {key: value for key, value in vars(options).items() if key != "out" and value is not None}
    table = rows(course.rests)
    table[0] |= {"counts": dict(course.tally.counts), "unexpected": dict(course.tally.unexpected)}
    table[0] |= {"samples": course.samples, "verdict": said}
    results = Results("soak", settings, COLUMNS, table, (*NOTES, *_told(course, said)))
    print(*_told(course, said), *write(results, options.out, _chart()), sep="\n")
    return 1 if said else 0


async def _run(options: argparse.Namespace, course: Course, workspace: Path) -> None:
    voices = workspace / "voices"
    shutil.copytree(VOICES, voices)
    key, [metrics] = make_key(), free_ports(1)
    frontend = {
        "FRONTEND_API_KEYS": entry("crowd", Scope.ADMIN, key),
        "FRONTEND_VOICES": str(voices),
        "FRONTEND_VOICE_UPLOAD": "true",
        "FRONTEND_METRICS_PORT": str(metrics),
        "FRONTEND_LOG_LEVEL": "ERROR",
    }
    environment = {**ENVIRONMENT, **frontend, "QWEN3_TTS_VOICES": str(voices)}
    served = Served(make_demo(workspace, "base"), parameters=PARAMETERS, environment=environment)
    async with servers(served, workspace) as addresses:
        http = "http" + addresses.websocket.removeprefix("ws").partition("/api")[0]
        places = Places(addresses.websocket, http, addresses.triton, key)
        gauges = Gauges(addresses.triton_metrics, f"http://127.0.0.1:{metrics}/metrics")
        await _spells(options, course, places, gauges)


@contextlib.contextmanager
def _log_kept(workspace: Path, out: Path) -> Iterator[None]:
    """Triton's log outlives its workspace: its last words are all there is of a server that has crashed."""
    try:
        yield
    finally:
        log = workspace / "triton.log"
        if log.is_file():
            out.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, out / "soak-triton.log")


async def _spells(options: argparse.Namespace, course: Course, places: Places, gauges: Gauges) -> None:
    """One rest before anybody has come, and one behind each spell of the crowd."""
    crowd = Crowd(options.clients, named(options.only), options.seed)
    course.rests.append(await at_rest(gauges, 0, course.began, REST_WITHIN_S))
    for spell in range(options.rests):
        try:
            async with asyncio.TaskGroup() as group:
                sampling = group.create_task(_sample(course, gauges))
                await crowd.visit(places, spell, options.minutes * 60 / options.rests, course.tally)
                sampling.cancel()
        except* CommandFailed as failures:
            raise failures.exceptions[0] from None
        rest = await at_rest(gauges, course.tally.utterances, course.began, REST_WITHIN_S)
        course.rests.append(rest)
        shown = {name: f"{one.memory_mb:.1f} MB, {one.fds} files, {one.threads}" for name, one in rest.held.items()}
        print(json.dumps({"rest": spell + 1, "utterances": rest.utterances, **shown}), flush=True)


async def _sample(course: Course, gauges: Gauges) -> None:
    while True:
        await asyncio.sleep(SAMPLE_S)
        values = await gauges.read()
        now = time.monotonic() - course.began
        sample = {"at_s": now, "in_flight": in_flight(values), "frames": values[FRAMES], "cpu_s": processor_seconds()}
        memory = {name: [one.memory_mb, one.fds, one.threads] for name, one in held().items()}
        course.samples.append({**sample, "utterances": course.tally.utterances, "held": memory})


def _verdict(course: Course) -> list[str]:
    met = [f"{times} times: {what}" for what, times in course.tally.unexpected.most_common()]
    return complaints(course.rests) + met


def _told(course: Course, said: Sequence[str]) -> list[str]:
    """The verdict and what it rests on, in a few lines."""
    counts = ", ".join(f"{times} {kind}" for kind, times in course.tally.counts.most_common())
    judged = slopes(course.rests)
    growth = ", ".join(f"{name} {slope:+.3f} (bound {BOUNDS.get(name, '–')})" for name, slope in judged.items())
    lines = [f"Counted: {counts}.", f"MB for each 1,000 utterances: {growth or 'not judged, the run is too short'}."]
    return [*lines, *(f"NOT CLEAN: {sentence}" for sentence in said)] if said else [*lines, "Nothing was left behind."]


def _chart() -> Chart:
    x: dict[str, Any] = {"x": "utterances", "x_label": "utterances so far", "by": "process"}
    return Chart(
        "What a stack under hard use holds at rest",
        (
            Panel("Memory", y=("memory_mb",), y_label="MB", **x),
            Panel("Open files", y=("fds",), y_label="files", **x),
            Panel("Threads", y=("threads",), y_label="threads", **x),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
