from __future__ import annotations

import pytest

from tests import zoo
from warmd.daemon.worker.text import describe
from warmd.protocol.wire import FROM_WORKER, MAX_HEADER_BYTES
from warmd.protocol.work import Ordinal, Raised


def fits(error: BaseException) -> Raised:
    """What a client is told; fails if it were no message."""
    raised = Raised(Ordinal(1), 0.0, *describe(error))
    assert len(FROM_WORKER.pack(raised)[0]) <= MAX_HEADER_BYTES
    return raised


@pytest.mark.parametrize("kind", list(zoo.EVIL))
def test_evil_exceptions_become_text(kind: str) -> None:
    try:
        raise zoo.EVIL[kind]
    except BaseException as error:
        raised = fits(error)
    assert "test_text.py" in raised.traceback
    assert raised.message
    assert raised.type


@pytest.mark.parametrize("function", ["recurse", "huge_text", "surrogates", "memory", "chained", "group"])
def test_large_and_odd_texts_fit(function: str) -> None:
    try:
        getattr(zoo.Raises(), function)()
    except BaseException as error:
        raised = fits(error)
    assert f"in {function}" in raised.traceback


def test_a_huge_graph_of_causes_fits() -> None:
    error: BaseException = ValueError("\U0001f600" * 10_000)
    for n in range(2000):
        outer = RuntimeError(f"{n}: " + "y" * 1000)
        outer.__cause__ = error
        error = outer
    assert fits(error).type == "RuntimeError"


def test_names_of_types() -> None:
    assert describe(ValueError("x")).type == "ValueError"
    assert describe(zoo.OwnBaseError("x")).type.endswith("zoo.OwnBaseError")
