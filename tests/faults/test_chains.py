"""A session that calls itself, directly or through others, is told so at once; it would wait for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

import warmd
from tests.faults.watch import AT_ONCE_SECONDS, within

APP = """
import warmd

class Caller:
    def relay(self, way):
        '''Calls the first session of the way, which goes on with the rest.'''
        if not way:
            return []
        with warmd.Client() as client:
            rest = client.run(function="relay", input={"way": way[1:]}, session=way[0]).output
            return [way[0], *rest]
"""


@pytest.fixture
def caller(tmp_path: Path) -> str:
    (tmp_path / "caller.py").write_text(APP)
    return f"{tmp_path}/caller.py:Caller"


@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_session_that_calls_itself_is_refused_at_once(client, caller, others):
    with client.session(caller) as first:
        way = [client.session(caller).id for _ in range(others)]
        assert first.call("relay", {"way": way}, timeout=20).output == way, "onward is no circle"
        with within(AT_ONCE_SECONDS), pytest.raises(warmd.AppError, match="would wait for itself") as caught:
            first.call("relay", {"way": [*way, first.id]}, timeout=20)
        assert caught.value.type.endswith(("Invalid", "AppError"))
        assert first.call("relay", {"way": []}).output == []
