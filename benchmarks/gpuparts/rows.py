"""What a part has found out, and its place in docs/gpu.md."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report import number

BEGIN = "<!-- gpu: written by python -m benchmarks.gpu --write -->"
END = "<!-- end of gpu -->"
MOST_TRACE_LINES = 30


class Missing(Exception):
    """A part cannot be measured here, for want of what it names."""


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    value: str
    target: str = ""
    verdict: str = ""
    """Of a target `met` or `MISSED`, of a check `right` or `WRONG`."""


@dataclass
class Found:
    """One part's rows."""

    part: str
    title: str
    rows: list[Row] = field(default_factory=list)
    missing: str = ""
    error: str = ""
    """A traceback."""

    def figure(self, what: str, value: float, unit: str) -> None:
        self.rows.append(Row(what, f"{number(value)} {unit}"))

    def target(self, what: str, value: float, limit: float, unit: str, *, at_most: bool = False) -> None:
        """A promise: at least `limit`, or with `at_most` no more than it."""
        met = value <= limit if at_most else value >= limit
        bound = f"{'at most' if at_most else 'at least'} {limit:g} {unit}"
        self.rows.append(Row(what, f"{number(value)} {unit}", bound, "met" if met else "MISSED"))

    def check(self, what: str, right: bool, told: object = "") -> None:
        """What must be right whatever the machine."""
        self.rows.append(Row(what, str(told), "", "right" if right else "WRONG"))

    def failed(self, error: BaseException) -> None:
        if isinstance(error, Missing):
            self.missing = str(error)
        else:
            lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
            self.error = "\n".join(lines[-MOST_TRACE_LINES:])

    @property
    def is_wrong(self) -> bool:
        return bool(self.error) or any(row.verdict == "WRONG" for row in self.rows)


def as_markdown(facts: Mapping[str, Any], found: Sequence[Found]) -> str:
    return "\n".join([", ".join(f"{name} {value}" for name, value in facts.items()) + ".", *_lines(found)])


def _lines(found: Sequence[Found]) -> Iterator[str]:
    yield from ("", "| | measured | target | |", "| --- | ---: | ---: | --- |")
    for one in found:
        told = "failed, see below" if one.error else f"not measured: {one.missing}" if one.missing else ""
        yield f"| **{one.title}** | {_cell(told)} | | |"
        yield from (
            f"| {_cell(row.what)} | {_cell(row.value)} | {row.target} | {row.verdict} |" for row in one.rows
        )
    for one in found:
        if one.error:
            yield from ("", f"What went wrong in `{one.part}`:", "", "```", *one.error.splitlines(), "```")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def replaced(document: str, table: str) -> str:
    """The document with the table between its markers.  Raises ValueError unless each is there once."""
    if document.count(BEGIN) != 1 or document.count(END) != 1:
        raise ValueError(f"the document must have {BEGIN!r} and {END!r}, each once")
    before, rest = document.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
