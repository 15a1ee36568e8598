"""Figures as text: a table of rows, a key as a heading, a number to three digits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]


def markdown_table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """A table of the rows; a unit at a key's end stands in brackets."""
    lines = [_line(map(heading, columns)), _line("---" for _ in columns)]
    lines += [_line(cell(row.get(column)) for column in columns) for row in rows]
    return "\n".join(lines) + "\n"


def heading(column: str) -> str:
    """`first_audio_p95_ms` as `first audio p95 (ms)`, `frames_per_s` as `frames/s`."""
    name, unit = name_and_unit(column)
    return name if unit is None else f"{name} ({unit})"


def name_and_unit(column: str) -> tuple[str, str | None]:
    """A key's words, and the unit it ends in."""
    words = column.replace("_per_", "/").split("_")
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    return " ".join(words if unit is None else words[:-1]), unit


def cell(value: object) -> str:
    """A value as the table shows it: numbers to three digits, what is missing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        digits = 2 - math.floor(math.log10(abs(value))) if value else 0
        return f"{value:,.{min(max(digits, 0), 6)}f}"
    return str(value).replace("|", "\\|")


_UNITS = {"ms": "ms", "s": "s", "gb": "GB", "gib": "GiB", "mb": "MB", "gflop": "GFLOP", "pct": "%", "ratio": "ratio"}


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
