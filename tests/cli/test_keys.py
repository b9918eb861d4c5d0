"""`warmd keys`, with a daemon and without."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

import warmd
from tests.cli.shell import Shell
from warmd.owndaemon import LocalClient


@pytest.fixture(scope="module")
def daemon():
    with warmd.testing.daemon(listen="tcp://127.0.0.1:0") as found:
        found.status()
        yield found


@pytest.fixture
def shell(daemon: LocalClient, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(daemon.address, capsys)


def test_a_key_is_made_used_listed_and_revoked(shell: Shell, daemon: LocalClient) -> None:
    (key,) = shell("keys", "new", "laptop")
    assert key.startswith("warmd1_") and "'laptop'" in shell.err
    with warmd.Client(str(daemon.status().listen), key=key) as client:
        assert client.status().clients == 2
        assert [line.split()[0] for line in shell("keys", "list")] == ["NAME", "laptop"]
        (told,) = shell.json("keys", "revoke", "laptop")
        assert (told["revoked"], told["connections_ended"]) == (["laptop"], 1)
        with contextlib.suppress(warmd.DaemonLost, warmd.NotAllowed):
            client.status()  # lost, if it was sent before the end was known
        with pytest.raises(warmd.NotAllowed):
            client.status()
    assert shell("keys", "list") == []
    assert shell.err == "no keys\n"


def test_json_has_all(shell: Shell) -> None:
    (made,) = shell.json("keys", "new", "phone")
    (listed,) = shell.json("keys", "list")
    (entry,) = listed["keys"]
    assert made["name"] == entry["name"] == "phone"
    assert len(entry["public_key"]) == 64 and made["key"] not in str(listed)
    shell("keys", "revoke", "phone")
    assert "connections ended: 0" in shell.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys", "new", "../x"), "cannot be a key's name"),
        (("keys", "revoke", "nobody"), "there is no key 'nobody'; there are: none"),
        (("keys", "new"), "Missing argument 'NAME'"),
    ],
)
def test_errors_of_usage(shell: Shell, words: tuple[str, ...], said: str) -> None:
    shell(*words)
    assert shell.code == 2 and said in shell.err


def test_without_a_daemon_the_keys_are_ready_for_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(str(tmp_path / "warmd.sock"), capsys)
    assert len(shell("keys", "new", "laptop")) == 1 and shell.code == 0
    assert (tmp_path / "keys" / "clients" / "laptop").exists()
    shell("keys", "revoke", "laptop")
    assert shell.code == 0 and "no daemon runs" in shell.err


@pytest.mark.parametrize("words", [("new", "laptop"), ("list",), ("revoke", "laptop")])
def test_a_place_where_no_keys_can_be_is_said_in_a_sentence(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").write_text("in the way")
    shell = Shell(str(tmp_path / "warmd.sock"), capsys)
    shell("keys", *words)
    assert shell.code == 78 and f"keys cannot be kept in {tmp_path / 'keys'}: " in shell.err
    assert "`warmd doctor` says more" in shell.err and "Errno" not in shell.err


def test_another_machines_keys_are_managed_there(capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell("tcp://127.0.0.1:1", capsys)
    shell("keys", "new", "laptop")
    assert shell.code == 2 and "own machine" in shell.err


def test_a_daemon_on_another_machine_is_not_stopped_from_here(shell: Shell, daemon: LocalClient, monkeypatch):
    (key,) = shell("keys", "new", "stranger")
    monkeypatch.setenv("WARMD_KEY", key)
    remote = Shell(str(daemon.status().listen), shell._capsys)
    remote("stop")
    assert remote.code == 77 and "own machine" in remote.err
    remote("status")
    assert remote.code == 0
    shell("keys", "revoke", "stranger")
    remote("status")
    assert remote.code == 77 and "does not know this key" in remote.err
