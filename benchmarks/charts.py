"""What a chart shows, as plain values that are kept beside the figures, so that it can be drawn again elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["lines", "bars", "stacked"]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    x, y: columns; several of y are drawn side by side. by: a column whose values split the rows into series.
    where: only rows that have these values. Axis labels carry the unit. stacked: bars of y upon each other.
    line: a value to mark across, with its label.
    """

    title: str
    x: str
    y: tuple[str, ...]
    x_label: str
    y_label: str
    kind: Kind = "lines"
    by: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False
    line: tuple[float, str] | None = None


@dataclass(frozen=True)
class Chart:
    """Panels side by side under one title."""

    title: str
    panels: tuple[Panel, ...]

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Chart:
        """A chart from what JSON made of it."""
        panels = []
        for panel in kept["panels"]:
            line = tuple(panel["line"]) if panel["line"] is not None else None
            panels.append(Panel(**{**panel, "y": tuple(panel["y"]), "line": line}))
        return cls(kept["title"], tuple(panels))
