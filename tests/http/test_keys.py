"""Bearer keys: made once, kept as hashes, gone from the next request on."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from warmd.http.keys import ANYBODY, Keys
from warmd.http.problems import HttpProblem, text_of
from warmd.protocol.errors import NoRoom


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys" / "http")


def test_a_key_lets_its_owner_in(keys: Keys) -> None:
    text = keys.add("laptop")
    caller = keys.caller(text)
    assert (caller.name, caller.scopes) == ("laptop", {"run", "read"})
    assert caller.may("run") and caller.may("read") and not caller.may("admin")
    assert caller.may_see(caller.id) and not caller.may_see("another")


def test_an_admin_may_all_and_sees_all(keys: Keys) -> None:
    caller = keys.caller(keys.add("root", ["admin"]))
    assert caller.may("run") and caller.may("read") and caller.may_see("another")
    assert ANYBODY.may("run") and ANYBODY.may_see("another")


@pytest.mark.parametrize("token", [None, "", "wk_", "wk_" + "A" * 43, "\udcff"])
def test_nobody_else_comes_in_and_the_text_does_not_repeat_what_was_shown(
    keys: Keys, token: str | None
) -> None:
    keys.add("laptop")
    with pytest.raises(HttpProblem) as caught:
        keys.caller(token)
    assert caught.value.status == 401
    assert "warmd http keys add NAME" in caught.value.detail
    assert "AAAA" not in caught.value.detail


def test_neither_the_key_nor_anything_for_others_is_written(keys: Keys) -> None:
    text = keys.add("laptop")
    (path,) = keys.path.iterdir()
    assert text.removeprefix("wk_") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o700


def test_a_gateway_that_runs_knows_what_was_changed(keys: Keys) -> None:
    running = Keys(keys.path)
    text = keys.add("laptop")
    caller = running.caller(text)
    keys.revoke("laptop")
    with pytest.raises(HttpProblem):
        running.caller(text)
    again = running.caller(keys.add("laptop"))
    assert again.id != caller.id, "a name that is given again is another key"


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "x" * 65])
def test_odd_names_are_refused(keys: Keys, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a key's name"):
        keys.add(name)


def test_a_name_is_given_once(keys: Keys) -> None:
    keys.add("laptop")
    with pytest.raises(ValueError, match="revoke it first"):
        keys.add("laptop")
    with pytest.raises(ValueError, match=r"no key 'desk'; there are: laptop"):
        keys.revoke("desk")
    with pytest.raises(ValueError, match=r"'write' is no scope"):
        keys.add("desk", ["write"])


def test_a_file_that_holds_no_key_lets_nobody_in(keys: Keys) -> None:
    keys.add("laptop")
    for name, text in (("odd", "no json"), ("short", "{}"), ("list", "[]"), ("none", '{"sha256": "zz"}')):
        (keys.path / name).write_text(text)
    assert [caller.name for caller in keys.callers()] == ["laptop"]


def test_who_has_the_gpu_memory_is_not_told_to_other_keys() -> None:
    waited = "app 'mine' did not start: there was no room for 60.0 GiB within 5m (gpu_wait)"
    holders = "GPU 0 (H100, 80.0 GiB) has 0.0 GiB free beside sess_1 of app theirs with 60.0 GiB (busy)"
    assert text_of(NoRoom(f"{waited}: {holders}. End one of these")) == waited
