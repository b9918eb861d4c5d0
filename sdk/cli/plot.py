"""The picture that `warmd bench --plot` writes, with matplotlib, which only it needs.

Without pyplot: a `Figure` alone opens no window and leaves no state behind.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from warmd.cli.exits import USAGE, Refusal
from warmd.cli.picture import PHASES, seconds, sooner
from warmd.cli.report import turns, unit_of
from warmd.cli.samples import Measured, percentile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (11, 4.6)
DPI = 150
HISTOGRAM_BINS = 40
COLOURS = {"start": "#c6cbd6", "imports": "#8fa3c7", "setup": "#4f6fae", "first": "#e0703a"}
PERCENTILE_STYLES = {50: "solid", 90: "dashed", 99: "dotted"}


def check_plot(path: str) -> None:
    """Find out, before anything is measured, whether a picture can be written to `path`.

    Raises click.UsageError for an ending that is no kind of picture and for a place that cannot be
    written to, Refusal without matplotlib.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        command = f"{sys.executable} -m pip install 'warmd[plot]'"
        raise Refusal(f"--plot draws with matplotlib, which is missing ({error}): {command}", USAGE) from None
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if Path(path).suffix[1:].lower() not in known:
        raise click.UsageError(f"--plot {path}: the ending says what to draw; there are .{', .'.join(known)}")
    try:
        _try_to_write(Path(path))
    except OSError as error:
        raise click.UsageError(f"--plot {path}: {error.strerror}; give another place") from None


def _try_to_write(path: Path) -> None:
    """By opening it: permissions alone say nothing of a file system that is read-only."""
    new = not path.exists()
    with open(path, "ab"):
        pass
    if new:
        path.unlink()


def draw(measured: Measured, title: str, path: str) -> None:
    """Write the picture: what was waited for in cold and warm calls, and how warm calls spread.

    Raises Refusal when the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    figure.suptitle(f"{title}\n{sooner(measured.typical_cold, measured.typical_warm)}")
    left, right = figure.subplots(1, 2)
    _bars(left, measured)
    _spread(right, measured)
    try:
        figure.savefig(path)
    except OSError as error:
        raise Refusal(f"--plot {path}: {error.strerror or error}", USAGE) from None


def _bars(axes: Axes, measured: Measured) -> None:
    unit = unit_of(measured)
    shown = turns(measured)
    labels = [turn.label for turn in shown]
    at = [0.0] * len(shown)
    names = {"start": "start a process", "first": f"first {unit}"}
    for phase in PHASES:
        lengths = [getattr(turn, phase) for turn in shown]
        axes.barh(labels, lengths, left=at, color=COLOURS[phase], label=names.get(phase, phase))
        at = [begun + length for begun, length in zip(at, lengths, strict=True)]
    for place, waited in enumerate(at):
        axes.annotate(
            seconds(waited), (waited, place), xytext=(4, 0), textcoords="offset points", va="center", size=8
        )
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.set(title=f"until the first {unit}", xlabel="seconds", xlim=(0, None))
    _finish(axes)


def _spread(axes: Axes, measured: Measured) -> None:
    """Up to the 99th percentile and a little more: one slow call would else squeeze all others."""
    unit, scale = ("s", 1.0) if measured.typical_warm >= 1 else ("ms", 1000.0)
    values = [sample.first * scale for sample in measured.warm]
    edge = percentile(values, 99) + 0.05 * (percentile(values, 99) - min(values))
    beyond = sum(value > edge for value in values)
    axes.hist([value for value in values if value <= edge], bins=HISTOGRAM_BINS, color=COLOURS["first"])
    for percent, style in PERCENTILE_STYLES.items():
        value = percentile(values, percent)
        name = f"p{percent}  {seconds(value / scale)}"
        axes.axvline(value, color="#333333", linestyle=style, linewidth=1, label=name)
    rest = f"; {beyond} more beyond, up to {seconds(max(values) / scale)}" if beyond else ""
    axes.set(
        title=f"warm calls ({len(values)}), until the first {unit_of(measured)}",
        xlabel=f"{unit}{rest}",
        ylabel="calls",
    )
    _finish(axes)


def _finish(axes: Any) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
