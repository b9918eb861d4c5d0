"""The words that a caller leaves with a detached call."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.world import World
from warmd.daemon.core.policy import Limits


def test_a_note_is_told_and_kept_with_its_call() -> None:
    world = World()
    heard = world.call(world.session(), detach=True, note="of ann's")
    assert [view.note for view in world.broker.detached_views()] == ["of ann's"]
    world.returns(b"value")
    view = world.broker.call_view(heard.call.id.hex())
    assert view is not None
    assert (view.state, view.note) == ("done", "of ann's")


def test_it_counts_as_what_is_kept() -> None:
    world = World(Limits(detached_max_bytes=10_000))
    first = world.call(world.session(), detach=True, note="x" * 2000)
    world.returns(b"value")
    world.call(world.session(), detach=True, note="y" * 2000)
    world.returns(b"value")
    assert world.attach(first).code == "CALL_GONE"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"note": "x" * 4097, "detach": True}, "note has 4097 characters, the limit is 4096"),
        ({"note": "x"}, "note is given"),
    ],
)
def test_an_odd_note_is_refused(options: dict[str, Any], says: str) -> None:
    heard = World().call("new", **options)
    assert heard.code == "INVALID"
    assert says in heard.final.message
