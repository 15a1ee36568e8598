"""What a benchmark leaves behind: NAME.json with everything, NAME.md with a table, NAME.png with a chart.

Fills in machine, versions, date and command line, so that no figure is without them. Knows no benchmark.

    python -m benchmarks.results FILE.json…     writes table and chart again from what was kept
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.charts import Chart
from benchmarks.machine import ABSENT, Machine, versions
from benchmarks.tables import Row, cell, markdown_table


@dataclass(frozen=True)
class Results:
    """The rows of one run.

    benchmark: also the name of the files. settings: what was asked for. columns: keys of the rows, in the order of the
    table; a key ends in its unit. A row may hold more than the table shows, and a key it lacks has no value.
    notes: sentences to be read with the table.
    """

    benchmark: str
    settings: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[Row]
    notes: tuple[str, ...] = ()


def write(results: Results, folder: Path, chart: Chart) -> list[Path]:
    """Write JSON, table and chart into `folder`, made if missing; returns the files.

    Without matplotlib the chart is left out and standard error says how to make it later.
    """
    path = keep(results, folder, chart)
    return [path, *redraw(path)]


def keep(results: Results, folder: Path, chart: Chart) -> Path:
    """Write JSON and table alone, as after each part of a long run: what was measured outlives whatever comes next.

    Returns the JSON, from which `redraw` draws.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        "benchmark": results.benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command_line(),
        "machine": asdict(Machine.here()),
        "versions": versions(),
        "settings": results.settings,
        "columns": list(results.columns),
        "rows": results.rows,
        "notes": list(results.notes),
        "chart": asdict(chart),
    }
    path = folder / f"{results.benchmark}.json"
    # allow_nan: a figure that is not a number is a fault of the benchmark and must not be written as one
    text = json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # Whoever is ended in the middle of it leaves what was kept before, not half of what is new.
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    path.with_suffix(".md").write_text(_page(kept), encoding="utf-8")
    return path


def redraw(path: Path) -> list[Path]:
    """Write table and chart beside a JSON file that `write` left; returns them."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    table = path.with_suffix(".md")
    table.write_text(_page(kept), encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is None:
        print(f"{path.name}: no chart, since matplotlib is not installed; where it is, run", file=sys.stderr)
        print(f"  python -m benchmarks.results {path}", file=sys.stderr)
        return [table]
    from benchmarks.drawing import draw

    return [table, draw(Chart.of(kept["chart"]), kept["rows"], subtitle(kept), path.with_suffix(".png"))]


def subtitle(kept: dict[str, Any]) -> str:
    """One line on where and with what the figures were made."""
    machine = Machine(**kept["machine"])
    return f"{machine}; torch {kept['versions']['torch']}; {kept['date'][:10]}; commit {kept['versions']['project']}"


def _page(kept: dict[str, Any]) -> str:
    """The whole of NAME.md."""
    known = {name: version for name, version in kept["versions"].items() if version != ABSENT}
    about = {
        "machine": str(Machine(**kept["machine"])),
        "driver": kept["machine"]["driver"],
        "versions": ", ".join(f"{name} {version}" for name, version in known.items()),
        "settings": ", ".join(f"{name} {_brief(value)}" for name, value in kept["settings"].items()),
        "date": kept["date"],
        "command": f"`{kept['command']}`",
    }
    lines = [f"- {name}: {value}" for name, value in about.items() if value is not None]
    notes = "".join(f"\n{note}\n" for note in kept["notes"])
    title = f"# {kept['chart']['title']}\n\n"
    return title + markdown_table(kept["columns"], kept["rows"]) + notes + "\n" + "\n".join(lines) + "\n"


def _brief(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else cell(value)


def _command_line() -> str:
    """What was called, as it can be called again."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    start = f"python -m {spec.name}" if spec is not None else Path(sys.argv[0]).name
    return " ".join([start, *sys.argv[1:]])


if __name__ == "__main__":
    for file in sys.argv[1:]:
        print(*redraw(Path(file)), sep="\n")
