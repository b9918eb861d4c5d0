"""Exit codes and what is printed of an error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from warmd.cli import exits
from warmd.protocol.errors import (
    BY_CODE,
    AppError,
    CallTimeout,
    NoRoom,
    SessionExpired,
    StartFailed,
    WarmdError,
    WorkerDied,
)


def test_every_code_of_the_protocol_has_an_exit_code() -> None:
    assert set(exits.BY_CODE) == set(BY_CODE)


def test_the_readme_lists_each_code_beside_its_exit_code() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", readme, re.MULTILINE)
    told = {code: int(exit) for exit, text in rows for code in re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", text)}
    assert {code: told.get(code) for code in exits.BY_CODE} == exits.BY_CODE
    assert {int(exit) for exit, _ in rows} == {0, exits.BAD_CONFIG, *exits.BY_CODE.values()}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AppError("boom"), 1),
        (SessionExpired("the session expired"), 3),
        (WorkerDied("SIGSEGV"), 4),
        (NoRoom("256 sessions"), 75),
        (CallTimeout("after 1 s"), 124),
        (WarmdError("something newer"), 1),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: WarmdError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits.report(error) == code
    assert capsys.readouterr().err == f"warmd: {error.message}\n"


def test_the_remote_traceback_follows(capsys: pytest.CaptureFixture[str]) -> None:
    exits.report(
        AppError("ValueError: x", details={"traceback": "Traceback ...\n  File ...\nValueError: x\n"})
    )
    assert capsys.readouterr().err == "warmd: ValueError: x\nTraceback ...\n  File ...\nValueError: x\n"


def test_the_output_of_a_failed_start_stands_in_for_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    tail = {"log_tail": "Traceback ...\nImportError: x"}
    exits.report(StartFailed("no start", details=tail))
    assert capsys.readouterr().err == "warmd: no start\nTraceback ...\nImportError: x\n"
    exits.report(StartFailed("no start", details={**tail, "traceback": "of setup"}))
    assert capsys.readouterr().err == "warmd: no start\nof setup\n"


def test_notes_come_last(capsys: pytest.CaptureFixture[str]) -> None:
    error = AppError("boom", details={"traceback": "where"})
    error.add_note("what helps")
    exits.report(error)
    assert capsys.readouterr().err == "warmd: boom\nwhere\nwhat helps\n"


def test_a_stack_that_the_message_holds_is_not_printed_twice(capsys: pytest.CaptureFixture[str]) -> None:
    exits.report(CallTimeout("hung at\na.py:3 in run", details={"stack": "a.py:3 in run"}))
    assert capsys.readouterr().err.count("a.py:3") == 1


def test_an_unexpected_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exits.report(ZeroDivisionError())
