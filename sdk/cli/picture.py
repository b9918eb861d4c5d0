"""Tables and bars of cold and warm calls: pure text from measured turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from warmd.cli.talk import table

PHASES = ("start", "imports", "setup", "first")
"""What passes until a caller sees something, in the order in which it happens."""
MARKS = {"start": "░", "imports": "▒", "setup": "▓", "first": "█"}
PLAIN_MARKS = {"start": ".", "imports": "-", "setup": "=", "first": "#"}
NAMES = {"start": "start a process", "imports": "imports", "setup": "setup"}
MIN_BAR_WIDTH = 10


@dataclass(frozen=True, slots=True)
class Turn:
    """One call as its caller saw it; times in seconds."""

    label: str
    start: float
    """Spawning the process, up to its first word; 0 in a warm session."""
    imports: float
    setup: float
    first: float
    """From asking a session that is ready to the first token (or the answer)."""
    total: float
    """The whole call, from asking to the last token, start included."""
    parts: int
    """How many tokens came."""

    @property
    def until_first(self) -> float:
        """What the caller waited for the first token, from asking, start included."""
        return self.start + self.imports + self.setup + self.first

    @property
    def parts_per_second(self) -> float | None:
        """How fast the tokens came after the first one."""
        rest = self.total - self.until_first
        return (self.parts - 1) / rest if self.parts > 1 and rest > 0 else None


def turn_table(turns: Sequence[Turn], unit: str) -> str:
    """The turns as a table; `unit` names what a part is, as "token"."""
    streams = any(turn.parts > 1 for turn in turns)
    heads = ["", "start", "imports", "setup", f"first {unit}", "waited"] + [
        f"{unit}s",
        f"{unit}s/s",
    ] * streams
    return table(heads, [_row(turn, streams) for turn in turns])


def _row(turn: Turn, streams: bool) -> list[str]:
    cells = [turn.label, *(seconds(getattr(turn, phase)) for phase in PHASES), seconds(turn.until_first)]
    rate = turn.parts_per_second
    return cells + [str(turn.parts), "-" if rate is None else f"{rate:.1f}"] * streams


def bars(turns: Sequence[Turn], width: int, unit: str, *, plain: bool = False) -> str:
    """One bar a turn, as long as the wait for its first part; at most `width` columns.

    `plain` draws in ASCII.
    """
    marks = PLAIN_MARKS if plain else MARKS
    margin = max(len(turn.label) for turn in turns) + 2
    room = max(MIN_BAR_WIDTH, width - margin - 10)
    scale = room / max(turn.until_first for turn in turns)
    lines = [
        f"{turn.label:{margin}}{_bar(turn, scale, marks)} {seconds(turn.until_first)}" for turn in turns
    ]
    names = {**NAMES, "first": f"first {unit}"}
    lines.append(" " * margin + "  ".join(f"{marks[phase]} {names[phase]}" for phase in PHASES))
    return "\n".join(lines)


def _bar(turn: Turn, scale: float, marks: dict[str, str]) -> str:
    # Rounding where each phase ends, not how long it is, keeps the whole bar's length right.
    text, at = "", 0.0
    for phase in PHASES:
        at += getattr(turn, phase) * scale
        text += marks[phase] * (round(at) - len(text))
    return text or marks["first"]


def verdict(turns: Sequence[Turn]) -> str:
    """One sentence: how much the warm turns waited less than the cold one."""
    cold, warm = turns[0], turns[1:]
    if not warm:
        return f"The first answer took {seconds(cold.until_first)}."
    return sooner(cold.until_first, sum(turn.until_first for turn in warm) / len(warm))


def sooner(cold: float, warm: float) -> str:
    """How much sooner an answer comes that takes `warm` seconds in place of `cold`.

    >>> sooner(4.0, 0.00125)
    'Cold 4.00 s, warm 1.25 ms: 3,200 times sooner.'
    """
    times = times_sooner(cold, warm)
    figure = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"Cold {seconds(cold)}, warm {seconds(warm)}: {figure} times sooner."


def times_sooner(cold: float, warm: float) -> float:
    return cold / warm if warm else math.inf


def as_objects(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The turns for `--json`; times in seconds."""
    return [{**asdict(turn), "until_first": turn.until_first} for turn in turns]


def seconds(value: float) -> str:
    """A time in three digits or so; `-` for none.

    >>> [seconds(value) for value in (0, 0.00044, 0.0123, 0.4)]
    ['-', '0.44 ms', '12.3 ms', '0.40 s']
    """
    if value == 0:
        return "-"
    if value < 0.01:
        return f"{value * 1000:.2f} ms"
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.2f} s"
