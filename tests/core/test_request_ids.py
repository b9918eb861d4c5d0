"""What a caller's own logs name a call by goes with it into its worker."""

from __future__ import annotations

import pytest

from tests.core.world import World


def test_the_worker_is_told_what_the_caller_names_its_call_by() -> None:
    world = World()
    session = world.session()
    world.call(session, request_id="req-1:a.b_c")
    assert world.running().request_id == "req-1:a.b_c"
    world.returns(b"value")
    world.call(session)
    assert world.running().request_id == ""


@pytest.mark.parametrize("id", ["x" * 65, "two words", "a\nb", "é"])
def test_one_that_could_break_a_line_of_a_log_is_refused(id: str) -> None:
    heard = World().call("new", request_id=id)
    assert heard.code == "INVALID"
    assert heard.final.message.startswith(f"request_id is {id!r}: expected 1 to 64 letters")
