"""Work on threads beside the loop's."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from warmd.daemon import helpers


def test_helpers_take_turns_and_one_that_hangs_costs_others_no_more_than_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(helpers, "TURN_SECONDS", 0.2)
    posted: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    crew = helpers.Helpers(SimpleNamespace(post=posted.put))  # type: ignore[arg-type]
    hangs, done = threading.Event(), []
    for _ in range(helpers.HELPERS):
        crew.call(hangs.wait, done.append)
    began = time.monotonic()
    crew.call(lambda: "late", done.append)
    posted.get(timeout=10)()
    assert done == ["late"]
    assert time.monotonic() - began >= 0.19
    hangs.set()
    for _ in range(helpers.HELPERS):
        posted.get(timeout=10)()
    began = time.monotonic()
    crew.call(lambda: "at once", done.append)
    posted.get(timeout=10)()
    assert done[-1] == "at once"
    assert time.monotonic() - began < 0.15
