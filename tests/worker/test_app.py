"""`warmd.context` outside of a worker: classes of apps can be unit-tested as they are."""

from __future__ import annotations

import subprocess
import sys

from tests import zoo
from warmd.app import Context, Interrupted, context


def test_outside_of_a_worker_nothing_is_known_and_nothing_happens() -> None:
    assert (context.session_id, context.call_id, context.app, context.cancelled) == (None, None, None, False)
    assert context.request_id is context.folder is None
    context.progress(object())
    assert context.logger.name == "warmd.app"
    assert Context().logger.handlers == []


def test_an_app_runs_as_a_plain_object() -> None:
    app = zoo.Good()
    app.setup({"x": 1})
    assert app.steps(3) == 3
    assert list(app.count_up(2)) == [0, 1]


def test_except_exception_lets_an_interrupt_through() -> None:
    assert not issubclass(Interrupted, Exception)


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, warmd.app; print({'asyncio', 'zmq', 'msgpack', 'logging', 'click'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "set()\n"
    )
