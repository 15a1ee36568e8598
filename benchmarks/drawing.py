"""Draws charts with matplotlib, without a screen. The only file that knows matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from benchmarks.charts import Chart, Panel
from benchmarks.tables import Row, cell, name_and_unit

Series = tuple[str, list[Any], list[float]]

_INCHES = (6.4, 4.6)
# Okabe and Ito's palette, which the colour-blind can tell apart; its yellow is too pale for lines.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
_DOTS = "osD^vPX*"


def draw(chart: Chart, rows: Sequence[Row], subtitle: str, path: Path) -> Path:
    """Draw the chart of `rows` into a PNG file; returns `path`."""
    count = len(chart.panels)
    across = min(count, 3)
    down = -(-count // across)
    figure = Figure(figsize=(_INCHES[0] * across, _INCHES[1] * down + 0.6), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle(chart.title, fontsize=13, fontweight="bold")
    places = figure.subplots(down, across, squeeze=False).flatten()
    for panel, axes in zip(chart.panels, places, strict=False):
        _draw_panel(panel, rows, axes)
    for unused in places[count:]:
        unused.set_axis_off()
    figure.supxlabel(subtitle, fontsize=7, color="#555555", wrap=True)
    figure.savefig(path, format="png")
    return path


def _draw_panel(panel: Panel, rows: Iterable[Row], axes: Axes) -> None:
    series = list(_series(panel, rows))
    axes.set_title(panel.title, fontsize=11)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(visible=True, axis="both" if panel.kind == "lines" else "y", alpha=0.3)
    axes.set_axisbelow(True)
    if panel.line is not None:
        axes.axhline(panel.line[0], color="#7F7F7F", linestyle="--", linewidth=1, label=panel.line[1])
    if panel.kind == "lines":
        _draw_lines(panel, series, axes)
    else:
        _draw_bars(panel, series, axes)
    if panel.log_y:
        axes.set_yscale("log")
    if not series:
        axes.text(0.5, 0.5, "nothing was measured", ha="center", va="center", transform=axes.transAxes)
    elif len(series) > 1 or panel.line is not None:
        axes.legend(fontsize=8)


def _series(panel: Panel, rows: Iterable[Row]) -> Iterable[Series]:
    """Label, x and y of everything to be drawn; rows without a value are left out."""
    chosen = [row for row in rows if all(row.get(key) == value for key, value in panel.where.items())]
    groups = list(dict.fromkeys(row.get(panel.by) for row in chosen)) if panel.by is not None else [None]
    for group in groups:
        for column in panel.y:
            points = [row for row in chosen if panel.by is None or row.get(panel.by) == group]
            points = [row for row in points if row.get(column) is not None and row.get(panel.x) is not None]
            name = name_and_unit(column)[0]
            label = name if group is None else str(group) if len(panel.y) == 1 else f"{group}: {name}"
            if points:
                yield label, [row[panel.x] for row in points], [float(row[column]) for row in points]


def _draw_lines(panel: Panel, series: Sequence[Series], axes: Axes) -> None:
    for index, (label, x, y) in enumerate(series):
        colour, dot = _COLOURS[index % len(_COLOURS)], _DOTS[index % len(_DOTS)]
        axes.plot(x, y, label=label, color=colour, marker=dot, markersize=5, linewidth=1.6)
    if panel.log_x and series:
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({place for _, x, _ in series for place in x}))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    if not panel.log_y:
        axes.set_ylim(bottom=0)


def _draw_bars(panel: Panel, series: Sequence[Series], axes: Axes) -> None:
    """Bars in groups, one group a value of x; stacked bars stand upon each other instead."""
    names = list(dict.fromkeys(str(place) for _, x, _ in series for place in x))
    base = [0.0] * len(names)
    width = 0.8 if panel.kind == "stacked" else 0.8 / max(1, len(series))
    for index, (label, x, y) in enumerate(series):
        values = dict(zip(map(str, x), y, strict=True))
        heights = [values.get(name, 0.0) for name in names]
        shift = 0.0 if panel.kind == "stacked" else (index - (len(series) - 1) / 2) * width
        places = [place + shift for place in range(len(names))]
        bottom = base if panel.kind == "stacked" else None
        bars = axes.bar(places, heights, width, bottom=bottom, label=label, color=_COLOURS[index % len(_COLOURS)])
        if panel.kind == "bars":
            axes.bar_label(bars, [cell(height) if height else "" for height in heights], fontsize=7, padding=1)
            axes.margins(y=0.25)  # room for the legend above them
        base = [below + height for below, height in zip(base, heights, strict=True)]
    crowded = sum(map(len, names)) > 60
    axes.set_xticks(range(len(names)), names, rotation=20 if crowded else 0, ha="right" if crowded else "center")
