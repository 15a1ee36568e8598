"""What a part of the GPU's benchmark came to, in a few lines of text for who sees only what is printed.

Reads logs and results; measures nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.tables import Row, cell

PARTS = ("talker", "predictor", "sampling", "codec")
"""Of a frame step; they stand in its row. Their own module would bring the engine along."""
LIMITS = {"checkpoint": 200, "card": 900, "engine": 1_650, "peers": 700, "serving": 1_650}
MOST_CHARACTERS = 1_800
"""Of one part, by the beginning of its name, and of any other: all of them together, with a line above each and how
they ended, stay below what a terminal's tail or a message holds (12,000)."""
_ENGINE = ("what", "batch", "length", "measured_ms", "floor_ms", "ratio", *(f"{part}_ms" for part in PARTS))
_COLUMNS = {
    "engine": (*_ENGINE, "audio_s_per_s"),
    "peers": ("peer", "dtype", "batch", "utterance_s", "first_audio_s", "audio_s_per_s", "times_official"),
    "serving": (
        *("door", "rate_per_s", "in_flight", "first_p50_ms", "audible_p50_ms", "audible_p95_ms", "audible_p99_ms"),
        *("underruns_at_once", "audio_s_per_s", "refused", "errors"),
    ),
}
_RATES = ("copy_gb_per_s", "read_gb_per_s", "tflops_bfloat16", "tflops_float32")
_END_OF_TESTS = re.compile(r"\b(passed|failed|skipped|errors?)\b.* in \d")
_FIGURES = re.compile(r"^=+ figures =+\n(.*?)^=", re.MULTILINE | re.DOTALL)
_LONGEST_LINE = 160


def digest(log: Path, results: Iterable[Path]) -> str:
    """The essence of results that a part left, or of its log where it left none; no more than its limit."""
    try:
        tables = [line for path in results for line in _of_results(json.loads(path.read_text(encoding="utf-8")))]
    except (OSError, ValueError, LookupError) as error:  # what one part left must not keep the next from running
        tables = [f"its results cannot be read: {type(error).__name__}: {error}", *_of_log(log)]
    lines, most = tables or _of_log(log), LIMITS.get(log.stem.partition("-")[0], MOST_CHARACTERS)
    text = "\n".join(line[:_LONGEST_LINE] for line in lines)
    if len(text) <= most:
        return text
    if tables or log.stem == "tests":
        return f"{text[:most]}\n… ({log.name} has the rest)"
    return f"({log.name} has the rest) …\n{text[-most:]}"  # of last words the last count


def _of_results(kept: dict[str, Any]) -> list[str]:
    columns = _COLUMNS.get(kept["benchmark"].partition("-")[0], tuple(kept["columns"]))
    rows = [row for row in kept["rows"] if row.get("what") not in PARTS and not str(row.get("door")).startswith("tax")]
    rates = [f"{name} {cell(kept['settings'][name])}" for name in _RATES if name in kept["settings"]]
    missing = [note for note in kept["notes"] if note.startswith(("Not measured", "Of the times"))]
    remarks = sorted({str(row["remark"]) for row in rows if row.get("remark")})
    return [", ".join([kept["benchmark"], *rates]), *_aligned(columns, rows), *missing[:5], *remarks]


def _aligned(columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Rows below their columns' names, milliseconds without their unit; a column without any value is left out."""
    shown = [column for column in columns if any(row.get(column) is not None for row in rows)]
    names = [column.removesuffix("_ms").replace("_per_", "/") for column in shown]
    lines = [names, *([_brief(row.get(name)) for name in shown] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [" ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _brief(value: object) -> str:
    return "" if value is None else cell(value).replace("first frame, ", "first, ")


def _of_log(log: Path) -> list[str]:
    """Of tests how many passed, what failed and why, and what was measured; of another program its last lines."""
    if not log.is_file():
        return []
    text = log.read_text(encoding="utf-8", errors="replace")
    if log.stem != "tests":
        return text.splitlines()[-8:]
    lines, figures = text.splitlines(), _FIGURES.search(text)
    ends = [line for line in lines if _END_OF_TESTS.search(line)]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR "))]
    # Without an end, as when there was no time for one, what each test came to stands in a line of its own.
    if not ends:
        ends = [f"no end; {sum(' PASSED' in line for line in lines)} tests have passed"]
        failed = [line for line in lines if " FAILED" in line or " ERROR" in line]
    reasons = dict.fromkeys(line for before, line in pairwise(["", *lines]) if _is_reason(line, before))
    return [*ends, *failed, *reasons, *(figures[1].splitlines() if figures is not None else [])]


def _is_reason(line: str, before: str) -> bool:
    """Whether a line of pytest's is the first of several that say why a test failed."""
    return line.startswith("E  ") and not before.startswith("E  ")
