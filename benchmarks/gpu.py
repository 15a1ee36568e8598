"""Everything that is to be measured on a GPU, in one call of under ten minutes.

    scripts/benchmark gpu OUT
    python3 -m benchmarks.gpu OUT        in an environment of one's own, from the repository's root

Runs the parts one after the other, each in a process of its own and with a limit of time. What a part leaves in OUT
stays whatever becomes of the later ones; OUT/gpu.md tells how each ended. A part whose packages are missing is not
run, and says what it misses.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.charts import Chart, Panel
from benchmarks.machine import REPOSITORY
from benchmarks.peer_process import PeerFailed, interpreter
from benchmarks.results import Results, write
from benchmarks.tables import Row

COLUMNS = ("part", "outcome", "took_s", "limit_s", "remark")
RATES = "1,2,4,8,10,12,16,20,24,32,40"
_GRACE_S = 10.0
_ENGINE = ("torch", "numpy", "safetensors", "tokenizers", "sentencex", "soundfile", "soxr")
# Packages whose import name is not what they are installed by.
_INSTALLED_AS = {"pytriton": "nvidia-pytriton", "grpc": "grpcio", "pytest_asyncio": "pytest-asyncio"}
_TRITON = ("tritonclient", "grpc", "pytriton")
_FRONTEND = ("quart", "hypercorn", "pydantic_settings", "prometheus_client", "av", "websockets")


@dataclass(frozen=True)
class Part:
    """A module to run, the packages it cannot do without, and seconds it may take."""

    name: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    limit: float
    missing: str | None = None


def parts(options: argparse.Namespace) -> Iterator[Part]:
    """The parts in the order of what is wanted most."""
    device, out = str(options.device), str(options.out)
    smoke = ("--smoke",) if options.smoke else ()
    kept = options.checkpoints or options.out / "checkpoints"
    small, large = (_model(size, options, kept) for size in ("0.6b", "1.7b"))
    marked = "gpu" if device.startswith("cuda") else "not parity and not stack"
    tests = ("tests/engine",) if marked == "gpu" else ("tests/engine/test_devices.py",)
    common = ("--device", device, "--out", out)
    yield Part("tests", ("pytest", "-q", "-m", marked, *tests), (*_ENGINE, "pytest", "hypothesis"), 90)
    quick = smoke or ("--quick",)
    yield Part("engine-0.6b", ("benchmarks.engine", *small, *common, *quick), _ENGINE, 100)
    yield Part("engine-1.7b", ("benchmarks.engine", *large, *common, *quick), _ENGINE, 110)
    precise = () if options.smoke else ("--dtypes", "bfloat16")
    yield Part("peers", ("benchmarks.peers", *small, *common, *precise, *smoke), _ENGINE, 90, _official_missing())
    doors = _doors()
    serving = ("benchmarks.serving", "--model", _served(options, kept), *common, "--doors", ",".join(doors))
    load = smoke or ("--rates", RATES, "--seconds", "4", "--dtype", "bfloat16")
    yield Part("serving", (*serving, *load), ("benchmarks.serving", *_ENGINE), 220, _closed_doors(doors))


def run(part: Part, out: Path, seconds_left: float) -> Row:
    """Run a part and tell how it ended; its output goes to a file of its own."""
    row: Row = {"part": part.name, "limit_s": part.limit, "remark": part.missing}
    needed = [_INSTALLED_AS.get(name, name) for name in part.needs if not _is_there(name)]
    if needed:
        return {**row, "outcome": "not run", "remark": f"not installed: {', '.join(needed)}"}
    limit = min(part.limit, seconds_left)
    if limit <= 0:
        return {**row, "outcome": "not run", "remark": "no time was left"}
    log = out / f"{part.name}.log"
    start = time.monotonic()
    status = _call(part.arguments, log, limit)
    outcome = {0: "done", None: "ran out of time"}.get(status, f"failed with {status}")
    if outcome != "done":
        last = _last_line(log)
        row["remark"] = "; ".join(filter(None, (part.missing, f"{log.name} ends: {last}" if last else None)))
    return {**row, "outcome": outcome, "took_s": time.monotonic() - start}


def _call(arguments: Sequence[str], log: Path, limit: float) -> int | None:
    """Exit status of a module run as a program; None when it had to be stopped, with everything it had started."""
    path = [str(REPOSITORY / "model_repository" / "qwen3_tts" / "1"), str(REPOSITORY / "scripts"), str(REPOSITORY)]
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
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(_GRACE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _model(size: str, options: argparse.Namespace, kept: Path) -> tuple[str, ...]:
    return () if options.smoke else ("--full-size", size, "--checkpoints", str(kept))


def _served(options: argparse.Namespace, kept: Path) -> str:
    """The checkpoint to serve: what the first part of the engine's has left."""
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
    parser.add_argument("--minutes", type=float, default=9.5, help="stop after this time (default 9.5)")
    parser.add_argument("--checkpoints", type=Path, help="where random checkpoints are kept (default OUT/checkpoints)")
    parser.add_argument("--smoke", action="store_true", help="only to see that it works: the demo, and small sizes")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run all parts; 0 unless one failed or ran out of time."""
    options = _arguments(arguments)
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = options.only.split(",") if options.only is not None else None
    end = time.monotonic() + 60 * options.minutes
    rows: list[Row] = []
    for part in parts(options):
        if wanted is not None and part.name not in wanted:
            continue
        rows.append(run(part, options.out, end - time.monotonic()))
        print(*(f"{key} {value}" for key, value in rows[-1].items() if value is not None), sep="; ", flush=True)
        _write(options, rows)  # after each, so that being stopped loses nothing
    return int(any(row["outcome"] not in ("done", "not run") for row in rows))


def _write(options: argparse.Namespace, rows: list[Row]) -> None:
    settings = {"device": options.device, "minutes": options.minutes, "smoke": options.smoke}
    spent = Panel("what each part took", "part", ("took_s",), "part", "time (s)", "bars")
    write(Results("gpu", settings, COLUMNS, rows), options.out, Chart("One run on a GPU", (spent,)))


if __name__ == "__main__":
    sys.exit(main())
