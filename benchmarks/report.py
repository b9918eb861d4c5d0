"""The table of a run, as Markdown, and its place in a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import Target
from benchmarks.rows import Line, Report

BEGIN = "<!-- figures: written by python -m benchmarks.run --write -->"
END = "<!-- end of figures -->"


@dataclass
class Outcome:
    """What a run has found."""

    facts: Mapping[str, Any]
    reports: list[Report] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Peers and rows that could not be had, and why."""
    failed: dict[str, str] = field(default_factory=dict)
    """Peers and rows that went wrong, and how."""

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": dict(self.facts),
            "rows": [_report_as_json(report) for report in self.reports],
            "missing": self.missing,
            "failed": self.failed,
        }


def _report_as_json(report: Report) -> dict[str, Any]:
    return {
        "row": report.key,
        "title": report.title,
        "unit": report.unit,
        "lines": [vars(line) for line in report.lines],
        "targets": [vars(target) | {"verdict": target.verdict} for target in report.targets],
        "missing": report.missing,
    }


def as_markdown(outcome: Outcome, plots: Mapping[str, str] | None = None) -> str:
    """The whole table; `plots` are the places of pictures by the rows' keys."""
    lines = [*_machine(outcome.facts), "", *verdicts([t for r in outcome.reports for t in r.targets])]
    for report in outcome.reports:
        lines += ["", f"### {report.title}", "", *_figures(report)]
        lines += ["", *_reasons("Not measured", report.missing)] if report.missing else []
        if plots and report.key in plots:
            lines += ["", f"![{report.title}]({plots[report.key]})"]
    for title, reasons in (("Not there", outcome.missing), ("Failed", outcome.failed)):
        lines += ["", *_reasons(title, reasons)] if reasons else []
    return "\n".join(lines)


def _machine(facts: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{facts['cores']} cores ({facts['cpu']}), {facts['memory_gib']} GiB, Linux {facts['kernel']}, "
        f"Python {facts['python']}; commit {facts['commit']}, {facts['time']}; "
        f"load {facts['load_average'][0]} before the run."
    )
    yield "Packages: " + ", ".join(f"{name} {version}" for name, version in facts["packages"].items()) + "."


def verdicts(targets: Sequence[Target]) -> Iterator[str]:
    """A line for each target: what was promised, what was measured."""
    yield "| what | target | measured | |"
    yield "| --- | --- | --- | --- |"
    for target in targets:
        unit = f" {target.unit}" if target.unit else ""
        bound = f"{'at most' if target.at_most else 'at least'} {target.limit:g}{unit}"
        measured = "" if target.value is None else f"{number(target.value)}{unit}"
        yield f"| {target.text} | {bound} | {measured} | {target.verdict} |"


def _figures(report: Report) -> Iterator[str]:
    if not any(line.to_floor or line.warmd_to_it for line in report.lines):
        yield f"| | {report.unit} |"
        yield "| --- | ---: |"
        yield from (f"| {line.name} | {number(line.value)} |" for line in report.lines)
        return
    yield f"| | {report.unit} | / floor | warmd / this |"
    yield "| --- | ---: | ---: | ---: |"
    yield from map(_line, report.lines)


def _line(line: Line) -> str:
    ratios = " | ".join("" if one is None else number(one) for one in (line.to_floor, line.warmd_to_it))
    return f"| {line.name} | {number(line.value)} | {ratios} |"


def _reasons(title: str, reasons: Mapping[str, str]) -> list[str]:
    return [f"{title}: " + "; ".join(f"{name} ({reason})" for name, reason in reasons.items()) + "."]


def number(value: float) -> str:
    """Three digits that count, and no more behind the point than they need."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def replaced(document: str, table: str) -> str:
    """The document with the table between its markers.  Raises ValueError unless each is there once."""
    for marker in (BEGIN, END):
        if document.count(marker) != 1:
            raise ValueError(f"the document has {document.count(marker)} lines {marker!r}, there must be one")
    before, _, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the document has {END!r} before {BEGIN!r}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
