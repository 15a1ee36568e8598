"""Everything that is to be measured on a GPU, in one call of under ten minutes.

    scripts/benchmark gpu OUT
    python3 -m benchmarks.gpu OUT        in an environment of one's own, from the repository's root

Runs the parts one after the other, each in a process of its own and with a limit of time, and prints what each came to
in a few lines. What a part leaves in OUT stays whatever becomes of it and of the later ones; OUT/gpu.md tells how each
ended. A part whose packages are missing is not run, and says what it misses.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.charts import Chart, Panel
from benchmarks.gpu_digest import digest
from benchmarks.machine import REPOSITORY, Machine, versions
from benchmarks.peer_process import PeerFailed, interpreter
from benchmarks.results import Results, write
from benchmarks.tables import Row, cell

COLUMNS = ("part", "outcome", "took_s", "limit_s", "remark")
RATES = "1,2,4,8,10,12,16,20,24,32,40"
CHECKPOINT = "checkpoint-0.6b"
# A run of tests that is interrupted still says what has failed; what does not listen is ended all the same.
_ENDINGS = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
_ENGINE = ("torch", "numpy", "safetensors", "tokenizers")
# Of these the benchmarks need so little that a stand-in (benchmarks/absent) will do.
_DISPENSABLE = ("sentencex", "soundfile", "soxr")
# Tests spend their time compiling kernels, which several processes do at once.
_TEST_PROCESSES = 6
# Packages whose import name is not what they are installed by.
_INSTALLED_AS = {"pytriton": "nvidia-pytriton", "grpc": "grpcio", "pytest_asyncio": "pytest-asyncio"}
_TRITON = ("tritonclient", "grpc", "pytriton")
_FRONTEND = ("quart", "hypercorn", "pydantic_settings", "prometheus_client", "av", "websockets")


@dataclass(frozen=True)
class Part:
    """A module to run, the packages it cannot do without, and its share of the time. remark: what it goes without."""

    name: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    share: float
    remark: str | None = None


def parts(options: argparse.Namespace, kept: Path) -> Iterator[Part]:
    """The parts in the order of what is wanted most. kept: where they leave random checkpoints to each other."""
    device, out = str(options.device), str(options.out)
    smoke = ("--smoke",) if options.smoke else ()
    small, large = (_model(size, options, kept) for size in ("0.6b", "1.7b"))
    common = ("--device", device, "--out", out)
    yield Part("tests", _tests(on_gpu=device.startswith("cuda")), (*_ENGINE, "pytest", "hypothesis"), 120)
    if not options.smoke and not (kept / "random-0.6b" / "config.json").is_file():
        made = ("commands.demo_checkpoint", str(kept / "random-0.6b"), "--size", "0b6", "--full-size")
        yield Part(CHECKPOINT, made, _ENGINE, 30)
    quick = smoke or ("--quick",)
    yield Part("engine-0.6b", ("benchmarks.engine", *small, *common, *quick), _ENGINE, 120)
    yield Part("engine-1.7b", ("benchmarks.engine", *large, *common, *quick), _ENGINE, 120)
    brief = smoke or ("--dtypes", "bfloat16", "--frames", "25", "--repeats", "3")
    yield Part("peers", ("benchmarks.peers", *small, *common, *brief), _ENGINE, 80, _official_missing())
    doors = _doors()
    serving = ("benchmarks.serving", "--model", _served(options, kept), *common, "--doors", ",".join(doors))
    few = smoke or ("--quick", "--batches", "1,8,64")
    load = smoke or ("--rates", RATES, "--seconds", f"{options.seconds:g}", "--dtype", "bfloat16")
    yield Part("serving", (*serving, *load), ("benchmarks.serving", *_ENGINE), 180, _closed_doors(doors))
    # Last: what the kernels are worth, and figures even where they do not run.
    plain = (*small, *common, *few, "--kernels", "off")
    yield Part("engine-0.6b-plain", ("benchmarks.engine", *plain), _ENGINE, 60)


def _tests(*, on_gpu: bool) -> tuple[str, ...]:
    """Those that need a GPU, or a few that need none to try this script."""
    told = ("-v", "-rf", "--tb=short", "--disable-warnings", "-p", "no:cacheprovider")
    if not on_gpu:
        return ("pytest", *told, "tests/engine/test_devices.py")
    shared_out = ("-n", str(_TEST_PROCESSES)) if _is_there("xdist") else ()
    return ("pytest", *told, *shared_out, "-m", "gpu", "tests/engine/test_gpu.py")


def run(part: Part, out: Path, limit: float) -> Row:
    """Run a part for at most `limit` seconds and tell how it ended; its output goes to a file of its own."""
    row: Row = {"part": part.name, "limit_s": limit, "remark": part.remark}
    needed = [_INSTALLED_AS.get(name, name) for name in part.needs if not _is_there(name)]
    if needed:
        return {**row, "outcome": "not run", "remark": f"not installed: {', '.join(needed)}"}
    if limit <= 0:
        return {**row, "outcome": "not run", "remark": "no time was left"}
    log = out / f"{part.name}.log"
    start = time.monotonic()
    status = _call(part.arguments, log, limit)
    outcome = {0: "done", None: "ran out of time"}.get(status, f"failed with {status}")
    if outcome != "done":
        last = _last_line(log)
        row["remark"] = "; ".join(filter(None, (part.remark, f"{log.name} ends: {last}" if last else None)))
    return {**row, "outcome": outcome, "took_s": time.monotonic() - start}


def _call(arguments: Sequence[str], log: Path, limit: float) -> int | None:
    """Exit status of a module run as a program; None when it had to be stopped, with everything it had started."""
    absent = [str(REPOSITORY / "benchmarks" / "absent" / name) for name in _DISPENSABLE if not _is_there(name)]
    own = [REPOSITORY / "model_repository" / "qwen3_tts" / "1", REPOSITORY / "scripts", REPOSITORY]
    path = [*map(str, own), *absent]
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*path, *([inherited] if inherited else [])]),
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env=environment,
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let nothing of a part live on beside the next: politely first."""
    for kind, grace_s in _ENDINGS:
        try:
            os.killpg(process.pid, kind)
            process.wait(grace_s)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _model(size: str, options: argparse.Namespace, kept: Path) -> tuple[str, ...]:
    return () if options.smoke else ("--full-size", size, "--checkpoints", str(kept))


def _served(options: argparse.Namespace, kept: Path) -> str:
    """The checkpoint to serve."""
    return "demo" if options.smoke else str(kept / "random-0.6b")


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _doors() -> list[str]:
    """The doors whose packages are here."""
    doors = ["engine"]
    if all(map(_is_there, _TRITON)):
        doors.append("triton")
        if all(map(_is_there, _FRONTEND)):
            doors.append("websocket")
    return doors


def _closed_doors(doors: Sequence[str]) -> str | None:
    lacking = [_INSTALLED_AS.get(name, name) for name in (*_TRITON, *_FRONTEND) if not _is_there(name)]
    return f"only {', '.join(doors)}; not installed: {', '.join(lacking)}" if lacking else None


def _official_missing() -> str | None:
    try:
        interpreter("official")
    except PeerFailed as error:
        return str(error)
    return None


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")[:200]


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmark gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, help="a folder for everything; made if missing")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or, to try this script, cpu")
    parser.add_argument("--only", help="parts to run, as engine-0.6b,serving (default: all)")
    parser.add_argument("--minutes", type=float, default=9, help="time for all of them (default 9)")
    parser.add_argument("--seconds", type=float, default=3, help="load at each rate of requests (default 3)")
    parser.add_argument("--checkpoints", type=Path, help="keep random checkpoints in this folder")
    parser.add_argument("--smoke", action="store_true", help="only to see that it works: the demo, and small sizes")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run all parts; 0 unless one failed or ran out of time, 2 for a part there is not."""
    options = _arguments(arguments)
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{Machine.here()}; {', '.join(f'{name} {version}' for name, version in versions().items())}", flush=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:  # gigabytes, which are no result
        kept = Path(temporary) if options.checkpoints is None else options.checkpoints.resolve()
        planned = list(parts(options, kept))
        names = [part.name for part in planned]
        wanted = {CHECKPOINT, *(names if options.only is None else options.only.split(","))}
        if unknown := wanted.difference(names, {CHECKPOINT}):
            there_are = f"there are {', '.join(names)}"
            print(f"benchmark gpu: no part is called {', '.join(unknown)}; {there_are}", file=sys.stderr)
            return 2
        rows = _run_all(options, [part for part in planned if part.name in wanted])
    return int(any(row["outcome"] not in ("done", "not run") for row in rows))


def _run_all(options: argparse.Namespace, waiting: list[Part]) -> list[Row]:
    end = time.monotonic() + 60 * options.minutes
    rows: list[Row] = []
    while waiting:
        # What one does not need of its time is for those behind it.
        limit = (end - time.monotonic()) * waiting[0].share / sum(part.share for part in waiting)
        part, begun = waiting.pop(0), time.time()
        rows.append(run(part, options.out, limit))
        print("##", *(f"{key} {cell(value)};" for key, value in rows[-1].items() if value is not None))
        left = sorted(path for path in options.out.glob("*.json") if path.stat().st_mtime >= begun)
        print(digest(options.out / f"{part.name}.log", left), flush=True)
        _write(options, rows)  # after each, so that being stopped loses nothing
    return rows


def _write(options: argparse.Namespace, rows: list[Row]) -> None:
    settings = {"device": options.device, "minutes": options.minutes, "smoke": options.smoke}
    spent = Panel("what each part took", "part", ("took_s",), "part", "time (s)", "bars")
    write(Results("gpu", settings, COLUMNS, rows), options.out, Chart("One run on a GPU", (spent,)))


if __name__ == "__main__":
    sys.exit(main())
