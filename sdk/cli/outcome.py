"""What came of trying an app: the calls, the findings, and how both are told."""

from __future__ import annotations

import contextlib
import math
import os
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from warmd.cli.findings import Finding, Level
from warmd.cli.picture import seconds
from warmd.cli.scaffold import how_to_test, place
from warmd.cli.schemas import cut, text_of
from warmd.cli.talk import table
from warmd.protocol.errors import WarmdError

PHASES = ("queue", "spawn", "imports", "setup", "run", "total")
MAX_ITEMS = 8
MAX_TEXT = 200
MAX_DEPTH = 4
STEPS = {"APP_NOT_FOUND": "app", "FUNCTION_NOT_FOUND": "app", "START_FAILED": "start"}
"""What an error is about that could come of any step."""
OUTPUT_FOLLOWS = "; its last output was:"
NEXT_LINE = "\n" + " " * len("warn  output  ")


@dataclass
class Made:
    """A call that was made; of what it yielded the last part is kept."""

    label: str
    parts: int = 0
    output: Any = None
    strange: str = ""
    """Where the output has what JSON lacks, and what."""
    timing: dict[str, Any] = field(default_factory=dict)
    first_seconds: float = 0.0
    """Until the first part, as the caller saw it."""

    def take(self, part: Any) -> None:
        self.parts += 1
        self.output = part
        self.strange = self.strange or not_json(part, "output" if self.parts == 1 else f"part {self.parts}")


@dataclass
class Trial:
    """A trial as far as it has come."""

    app: str
    function: str | None
    input: Any
    session: str | None = None
    calls: list[Made] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    error: WarmdError | None = None
    _at: str = "app"

    @property
    def bad(self) -> bool:
        return any(finding.level == "bad" for finding in self.findings)

    def found(self, level: Level, check: str, text: str) -> None:
        self.findings.append(Finding(level, check, text))

    @contextlib.contextmanager
    def step(self, name: str, *, goes_on: bool = False) -> Iterator[None]:
        """What fails in the block is told as this step's; with `goes_on` it does not end the trial."""
        self._at = name
        try:
            yield
        except WarmdError as error:
            if not goes_on:
                raise
            self.failed(error, name)

    def failed(self, error: WarmdError, check: str | None = None) -> None:
        """Tell of an error, by default as one that ended the trial where it was."""
        self.error = error
        text = error.message.partition("\n")[0].removesuffix(OUTPUT_FOLLOWS)
        self.found("bad", check or STEPS.get(error.code, self._at), text)

    def as_object(self) -> dict[str, Any]:
        """Everything for `--json`; outputs shortened, times in seconds."""
        fields = ("code", "outcome", "ran", "message", "details")
        return {
            "app": self.app,
            "function": self.function,
            "input": brief(self.input),
            "healthy": self.error is None and not self.bad,
            "findings": [asdict(finding) for finding in self.findings],
            "calls": [
                {"label": one.label, "parts": one.parts, "output": brief(one.output), "timing": one.timing}
                for one in self.calls
            ],
            "error": self.error and {name: getattr(self.error, name) for name in fields},
        }


def page(trial: Trial, width: int) -> str:
    """The findings, the times and the outputs, for people."""
    rows = [[one.level, one.check, _told(one, width)] for one in trial.findings]
    parts = [table(["", "CHECK", "FINDING"], rows)] if rows else []
    if trial.calls:
        parts += [_times(trial.calls), "\n".join(_outputs(trial, width))]
    if tests := _tests(trial.app):
        parts.append(tests)
    return "\n\n".join(parts)


def _told(finding: Finding, width: int) -> str:
    """Its text, broken at the edge; lines of a text that has several, such as a traceback, stay whole."""
    lines = finding.text.splitlines()
    if len(lines) == 1:
        room = width - len(NEXT_LINE)
        lines = textwrap.wrap(finding.text, room, break_long_words=False, break_on_hyphens=False)
    return NEXT_LINE.join(lines)


def _times(calls: list[Made]) -> str:
    streams = any(call.parts > 1 for call in calls)
    rows = [
        [call.label, *(seconds(call.timing[name]) for name in PHASES), seconds(call.first_seconds)]
        for call in calls
    ]
    shown = slice(len(rows[0]) if streams else -1)
    return table(["", *PHASES, "first part"][shown], [row[shown] for row in rows])


def _outputs(trial: Trial, width: int) -> Iterator[str]:
    if trial.input is not None:
        yield cut(f"{'input':9}{text_of(brief(trial.input))}", width)
    for call in trial.calls:
        count = f"{call.parts} parts, the last: " if call.parts > 1 else ""
        yield cut(f"{call.label:9}{count}{text_of(brief(call.output))}", width)


def _tests(app: str) -> str:
    """How the tests in an app's folder are run; empty where there are none."""
    folder = Path(app)
    with contextlib.suppress(OSError):
        if folder.is_dir() and any([*folder.glob("test_*.py"), *folder.glob("tests/test_*.py")]):
            command, remark = how_to_test(place(folder))
            return f"It has tests, which were not run: {command}  # {remark}"
    return ""


def not_json(value: Any, where: str) -> str:
    """Where a value has what JSON lacks, and what that is; empty for plain JSON.

    >>> not_json({"a": [1, b"x"]}, "output"), not_json({1: 2}, "output"), not_json([1.5, None], "output")
    ("output['a'][1] is bytes", 'output has the key 1', '')
    """
    if value is None or isinstance(value, (bool, int, str)):
        return ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{where} is {value}"
    if isinstance(value, list):
        found = (not_json(item, f"{where}[{at}]") for at, item in enumerate(value))
        return next(filter(None, found), "")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{where} has the key {key!r}"
            if strange := not_json(item, f"{where}[{key!r}]"):
                return strange
        return ""
    return f"{where} is {type(value).__name__}"


def brief(value: Any, depth: int = 0) -> Any:
    """A value in the words of JSON with little of it: of what is long the beginning."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return cut(value, MAX_TEXT)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple, dict)) and depth == MAX_DEPTH:
        return f"... ({len(value)})"
    if isinstance(value, dict):
        some = list(value.items())[:MAX_ITEMS]
        more = {"...": f"{len(value)} in all"} if len(value) > MAX_ITEMS else {}
        return {cut(str(key), MAX_TEXT): brief(item, depth + 1) for key, item in some} | more
    if isinstance(value, (list, tuple)):
        more_items = [f"... ({len(value)} in all)"] if len(value) > MAX_ITEMS else []
        return [brief(item, depth + 1) for item in value[:MAX_ITEMS]] + more_items
    return _summary(value)


def _summary(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{kind}, {len(value)} bytes>"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"<{kind}, {value.dtype}, {tuple(value.shape)}>"
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    return cut(f"<{kind}> {value}", MAX_TEXT)
