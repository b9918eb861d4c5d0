"""What a word names on the command line, against a real daemon: a session, a call, neither."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import warmd
from tests.cli.shell import Shell


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.testing.daemon() as found:
        found.status()
        yield found


@pytest.fixture
def shell(client: warmd.Client, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(client.address, capsys)


def test_a_name_goes_on_meaning_the_last_session_that_had_it(shell: Shell) -> None:
    for _ in range(2):
        (opened,) = shell.json("run", "counter", "--name", "late")
        shell("end", "late")
    last = opened["session"]
    assert shell.json("inspect", "late")[0]["id"] == last
    shell("logs", "late")
    assert shell.code == 0
    assert shell("end", "late") == [last]
    for words in (["call", "late"], ["keepalive", "late"], ["hold", "late", "1m"]):
        shell(*words)
        assert shell.code == 3 and f"session {last} has ended" in shell.err
