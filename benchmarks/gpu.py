"""Everything that is to be measured on a GPU, in one call of under ten minutes.

    scripts/benchmark gpu OUT
    python3 -m benchmarks.gpu OUT        in an environment of one's own, from the repository's root

Runs the parts one after the other, each in a process of its own and with a limit of time, prints what each came to in a
few lines, and at the end how each ended. What a part leaves in OUT stays whatever becomes of it and of the later ones.
A part whose packages are missing is not run, and says what it misses. Where the first part finds that our kernels do
not run, all others do without them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from benchmarks.charts import Chart, Panel
from benchmarks.gpu_digest import digest
from benchmarks.gpu_parts import CARD, CHECKPOINT, DISPENSABLE, PLAIN, Part, is_there, missing, parts
from benchmarks.machine import REPOSITORY, Machine, versions
from benchmarks.results import Results, keep, redraw
from benchmarks.tables import Row, cell

COLUMNS = ("part", "outcome", "took_s", "limit_s", "remark")
WITHOUT_KERNELS = {"QWEN3_TTS_KERNELS": "off"}
# A run of tests that is interrupted still says what has failed; what does not listen is ended all the same.
_ENDINGS = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
# What endings and the results themselves may take of the minutes there are.
_KEPT_BACK_S = 20.0


def run(part: Part, out: Path, limit: float, environment: Mapping[str, str]) -> Row:
    """Run a part for at most `limit` seconds and tell how it ended; its output goes to a file of its own."""
    row: Row = {"part": part.name, "limit_s": limit, "remark": part.remark}
    if needed := missing(part):
        return {**row, "outcome": "not run", "remark": f"not installed: {', '.join(needed)}"}
    if part.name == PLAIN and WITHOUT_KERNELS.items() <= environment.items():
        return {**row, "outcome": "not run", "remark": "the others were without kernels too"}
    if limit <= 0:
        return {**row, "outcome": "not run", "remark": "no time was left"}
    log = out / f"{part.name}.log"
    start = time.monotonic()
    status = _call(part.arguments, log, limit, environment)
    outcome = {0: "done", None: "ran out of time"}.get(status, f"failed with {status}")
    if outcome != "done":
        last = _last_line(log)
        row["remark"] = "; ".join(filter(None, (part.remark, f"{log.name} ends: {last}" if last else None)))
    return {**row, "outcome": outcome, "took_s": time.monotonic() - start}


def _call(arguments: Sequence[str], log: Path, limit: float, given: Mapping[str, str]) -> int | None:
    """Exit status of a module run as a program; None when it had to be stopped, with everything it had started."""
    absent = [str(REPOSITORY / "benchmarks" / "absent" / name) for name in DISPENSABLE if not is_there(name)]
    own = [REPOSITORY / "model_repository" / "qwen3_tts" / "1", REPOSITORY / "scripts", REPOSITORY]
    inherited = os.environ.get("PYTHONPATH")
    path = [*map(str, own), *absent, *([inherited] if inherited else [])]
    environment = {**os.environ, **given, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
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
    signal.signal(signal.SIGTERM, _stopped)
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
        rows: list[Row] = []
        planned = [part for part in planned if part.name in wanted]
        try:
            _run_all(options, list(planned), rows)
        finally:
            print(*_summary(planned, rows), sep="\n", flush=True)
    redraw(options.out / "gpu.json")
    return int(any(row["outcome"] not in ("done", "not run") for row in rows))


def _stopped(number: int, frame: FrameType | None) -> None:
    """Whoever ends this program is told what there is, and the part under way is ended with it."""
    raise SystemExit(128 + number)


def _run_all(options: argparse.Namespace, waiting: list[Part], rows: list[Row]) -> None:
    """rows: filled one by one."""
    end = time.monotonic() + 60 * options.minutes - _KEPT_BACK_S
    environment: dict[str, str] = {}
    while waiting:
        # What one does not need of its time is for those behind it.
        limit = (end - time.monotonic()) * waiting[0].share / sum(part.share for part in waiting)
        part, begun = waiting.pop(0), time.time()
        rows.append(run(part, options.out, limit, environment))
        print("##", *(f"{key} {cell(value)};" for key, value in rows[-1].items() if value is not None))
        left = sorted(path for path in options.out.glob("*.json") if path.stat().st_mtime >= begun)
        print(digest(options.out / f"{part.name}.log", left), flush=True)
        if part.name == CARD and _kernels_fail(options.out / f"{CARD}.json", begun):
            environment = WITHOUT_KERNELS
            print("From here on without our kernels.", flush=True)
        _keep(options, rows)  # after each, so that being stopped loses nothing


def _kernels_fail(found: Path, begun: float) -> bool:
    """Whether the card's checks of this run found so."""
    if not found.is_file() or found.stat().st_mtime < begun:
        return False
    settings = json.loads(found.read_text(encoding="utf-8"))["settings"]
    return bool(settings["kernels"] == "off")


def _summary(planned: Sequence[Part], rows: Sequence[Row]) -> list[str]:
    """The last lines: how each part ended, those that were never begun too."""
    ended = {row["part"]: row for row in rows}
    lines = ["## how each part ended"]
    for part in planned:
        row = ended.get(part.name, {"outcome": "not begun"})
        lines.append(f"{part.name}: {row['outcome']}" + (f", {row['took_s']:.0f} s" if "took_s" in row else ""))
    return lines


def _keep(options: argparse.Namespace, rows: list[Row]) -> None:
    settings = {"device": options.device, "minutes": options.minutes, "smoke": options.smoke}
    spent = Panel("what each part took", "part", ("took_s",), "part", "time (s)", "bars")
    keep(Results("gpu", settings, COLUMNS, rows), options.out, Chart("One run on a GPU", (spent,)))


if __name__ == "__main__":
    sys.exit(main())
