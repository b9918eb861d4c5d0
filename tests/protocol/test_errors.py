"""Errors keep their facts from the rule book to the caller's `except`, also across processes."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.protocol import errors
from warmd.protocol.errors import BY_CODE, MAX_TEXT_BYTES, Problem, WarmdError, exception_from, shorten

OUTCOMES = {
    "app_error": {"APP_ERROR"},
    "worker_died": {"WORKER_DIED"},
    "no_session": {"SESSION_NOT_FOUND", "SESSION_EXPIRED", "SESSION_ENDED", "SESSION_DIED"},
    "rejected": {
        "INVALID", "TOO_LARGE", "QUEUE_FULL", "SLOW_CONSUMER", "NO_ROOM", "DRAINING", "NOT_ALLOWED",
        "APP_NOT_FOUND", "APP_MISMATCH", "FUNCTION_NOT_FOUND",
    },
    "start_failed": {"START_FAILED"},
    "timeout": {"TIMEOUT"},
    "cancelled": {"CANCELLED"},
    "gone": {"CALL_GONE"},
    "daemon_lost": {"DAEMON_UNAVAILABLE", "DAEMON_LOST", "INTERNAL"},
}  # fmt: skip

every_code = pytest.mark.parametrize("code", sorted(BY_CODE))


def tree(kind: type[WarmdError]) -> list[tuple[str, str]]:
    """(class, parent) of all below `kind`, as the classes say."""
    return [
        pair for child in kind.__subclasses__() for pair in [(child.__name__, kind.__name__), *tree(child)]
    ]


def documented() -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The tree and the codes in the module's docstring."""
    parents, codes, above = [], {}, {0: "WarmdError"}
    for branch, name, code in re.findall(
        r"^( *(?:\| +)*)\+- (\w+)(?: +([A-Z_]+))?", errors.__doc__ or "", re.M
    ):
        depth = 2 if len(branch) > 5 else 1
        above[depth] = name
        parents.append((name, above[depth - 1]))
        if code:
            codes[name] = code
    return parents, codes


def test_the_documented_tree_is_the_tree() -> None:
    parents, codes = documented()
    assert sorted(parents) == sorted(tree(WarmdError))
    assert codes == {kind.__name__: code for code, kind in BY_CODE.items()}


def test_each_code_has_the_outcome_of_the_design() -> None:
    found: dict[str, set[str]] = {}
    for code, kind in BY_CODE.items():
        found.setdefault(kind.outcome, set()).add(code)
    assert found == OUTCOMES


@every_code
def test_an_exception_carries_the_facts_of_its_problem(code: str) -> None:
    problem = Problem(code, "why it went wrong", "maybe", {"signal": "SIGKILL"})
    error = exception_from(problem, session="sess_1", call="ab")
    assert type(error) is BY_CODE[code]
    assert error.code == code
    assert (error.message, str(error), error.ran) == ("why it went wrong", "why it went wrong", "maybe")
    assert (error.session, error.call, error.details) == ("sess_1", "ab", {"signal": "SIGKILL"})


@every_code
@pytest.mark.parametrize("clone", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_exception_crosses_a_process_pool(code: str, clone) -> None:
    error = exception_from(Problem(code, "text", "yes", {"type": "KeyError"}), session="s", call="c")
    twin = clone(error)
    assert type(twin) is type(error)
    assert vars(twin) == vars(error)
    assert twin.args == error.args


def test_a_code_of_a_newer_daemon_is_a_plain_error_that_keeps_it() -> None:
    error = pickle.loads(pickle.dumps(exception_from(Problem("SOMETHING_NEW", "text", "maybe"))))
    assert type(error) is WarmdError
    assert error.code == "SOMETHING_NEW"
    assert error.message == "text"
    assert error.ran == "maybe"


def test_errors_are_caught_by_the_builtin_that_callers_expect() -> None:
    assert issubclass(errors.CallTimeout, TimeoutError)
    assert issubclass(errors.Invalid, ValueError)
    assert issubclass(errors.DaemonLost, ConnectionError)
    assert issubclass(errors.DaemonUnavailable, ConnectionError)


def test_details_are_copied() -> None:
    details = {"signal": "SIGKILL"}
    error = WarmdError("text", details=details)
    details.clear()
    assert error.details == {"signal": "SIGKILL"}


def test_an_app_error_names_type_and_traceback() -> None:
    error = exception_from(
        Problem("APP_ERROR", "text", "yes", {"type": "KeyError", "traceback": "Traceback"})
    )
    assert isinstance(error, errors.AppError)
    assert (error.type, error.traceback) == ("KeyError", "Traceback")
    assert (errors.AppError("text").type, errors.AppError("text").traceback) == ("", "")


@given(st.text(st.characters(exclude_characters="\n"), max_size=200), st.integers(30, 300))
def test_a_shortened_text_fits_and_keeps_both_ends(text: str, limit: int) -> None:
    short = shorten(text, limit)
    whole = text.encode("utf-8", "replace")
    if len(whole) <= limit:
        assert short == text
        return
    assert len(short.encode()) <= limit
    begin, end = short.split("\n... (shortened) ...\n")
    assert whole.decode().startswith(begin)
    assert whole.decode().endswith(end)


def test_the_limit_is_64_kib_of_utf8() -> None:
    assert MAX_TEXT_BYTES == 65536
    assert len(shorten("\U0001f600" * 60_000).encode()) <= MAX_TEXT_BYTES
    assert shorten("x" * MAX_TEXT_BYTES) == "x" * MAX_TEXT_BYTES


@pytest.mark.parametrize("value", ["a" * 500, b"b" * 500, ["c"] * 500, {"d": "e" * 500}])
def test_what_is_quoted_is_short_and_closed(value: object) -> None:
    text = errors.quoted(value, 40)
    assert len(text) == 40
    assert (text[0], text[-1]) == (repr(value)[0], repr(value)[-1])
    assert errors.quoted("it's", 40) == '"it\'s"'
