"""Sessions by a name or a prefix."""

from __future__ import annotations

import pytest

from warmd.protocol import names
from warmd.protocol.errors import Invalid


def info(start: str, state: str = "idle", name: str | None = None) -> dict[str, object]:
    return {"id": f"sess_{start:0<32}", "app": "counter", "state": state, "name": name}


KNOWN = [
    info("3f2a"),
    info("3f2b"),
    info("a1", "ended"),
    info("a2"),
    info("b1", "died"),
    info("c1", name="mine"),
]


@pytest.mark.parametrize(
    ("text", "start"),
    [("3f2a", "3f2a"), ("sess_3f2b", "3f2b"), ("a", "a2"), ("b", "b1"), ("mine", "c1"), ("a1", "a1")],
)
def test_a_prefix_that_fits_one_session(text: str, start: str) -> None:
    assert names.match(text, KNOWN) == info(start)["id"]


@pytest.mark.parametrize("text", ["3f2", "sess_", "sess_3"])
def test_a_prefix_that_fits_several_lists_them(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        names.match(text, KNOWN)
    message = caught.value.message
    assert str(info("3f2a")["id"]) in message
    assert "counter  idle" in message


def test_a_long_list_of_matches_is_cut() -> None:
    with pytest.raises(Invalid, match="and 5 more"):
        names.match("sess_", [info(f"{n:04}") for n in range(15)])


@pytest.mark.parametrize("text", ["ffff", "", "sess_zz"])
def test_a_prefix_that_fits_none(text: str) -> None:
    assert names.match(text, KNOWN) is None


def test_a_name_means_the_living_session_before_the_newest_that_is_gone() -> None:
    known = [info("c1", "ended", name="mine"), info("c2", "died", name="mine")]
    assert names.match("mine", known) == info("c2")["id"]
    assert names.match("mine", [info("c3", name="mine"), *known]) == info("c3")["id"]


def test_a_living_session_that_begins_so_comes_before_the_name_of_one_that_is_gone() -> None:
    assert names.match("c4", [info("c1", "ended", name="c4"), info("c4")]) == info("c4")["id"]


def test_workers_of_the_pool_can_be_looked_at() -> None:
    pool = {**info("d1"), "id": "pool_d1" + "0" * 30, "kind": "pool"}
    assert names.match("d1", [pool]) == names.match("pool_d", [pool]) == pool["id"]


def test_a_call_is_meant_by_the_beginning_that_fits_it_alone() -> None:
    assert names.match_call("3BD", ["3bd5855a", "3be00000", "3bd5855a"]) == "3bd5855a"
    assert names.match_call("4", ["3bd5855a"]) is names.match_call("", ["3bd5855a"]) is None
    with pytest.raises(Invalid, match="2 calls begin with '3b': give more digits"):
        names.match_call("3b", ["3bd5855a", "3be00000"])


def test_only_whole_ids_need_no_question() -> None:
    assert names.is_whole(str(info("3f2a")["id"]))
    assert not names.is_whole("3f2a")
