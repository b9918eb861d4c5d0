"""Pictures of the rows: one bar for each that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.rows import Line, Report

OURS, OTHERS = "#c2410c", "#94a3b8"
MIN_LINES = 3
"""Fewer need no picture."""
LOG_FROM = 20.0
"""How many times the shortest the longest bar must be for a logarithmic scale."""


def draw(reports: Sequence[Report], folder: Path) -> dict[str, str]:
    """SVG files in `folder`, by the rows' keys: their names.  Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file, and text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "warmd", "svg.fonttype": "none"})
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for report in reports:
        if len(report.lines) >= MIN_LINES:
            drawn[report.key] = f"{report.key}.svg"
            _draw(report, folder / drawn[report.key])
    return drawn


def _draw(report: Report, path: Path) -> None:
    from matplotlib.figure import Figure

    lines = sorted(report.lines, key=lambda line: line.value)
    values = [line.value for line in lines]
    figure = Figure(figsize=(8, 0.6 + 0.34 * len(lines)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([line.name for line in lines], values, color=[_color(line) for line in lines])
    axes.bar_label(bars, labels=[f"{value:,.3g}" for value in values], padding=3)
    if values[-1] > LOG_FROM * values[0] > 0:
        axes.set_xscale("log")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(report.unit)
    axes.set_title(report.title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _color(line: Line) -> str:
    return OURS if "warmd" in line.name else OTHERS
