"""Detached calls on the command line, against a real daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import warmd
from tests.cli.shell import Shell
from warmd.cli.completion import complete_calls
from warmd.cli.root import cli

ZOO = Path(__file__).parents[1] / "zoo.py"
GOOD = f"{ZOO}:Good"
RAISES = f"{ZOO}:Raises"
UNKNOWN = "ab" * 16


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.testing.daemon() as found:
        found.status()
        yield found


@pytest.fixture
def shell(client: warmd.Client, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(client.address, capsys)


def test_a_call_is_left_and_read_later(shell: Shell) -> None:
    (call,) = shell("run", GOOD, "--function", "count_up", "n=4", "--detach")
    assert shell.code == 0 and "shared pool" in shell.err
    assert shell("attach", call) == ["0", "1", "2", "3"]
    assert shell.code == 0 and "shared pool" in shell.err
    assert shell("attach", call, "--offset", "2") == ["2", "3"]
    first, second, end = shell.json("attach", call, "--offset", "2")
    assert (first["part"], first["value"], second["part"]) == (2, 2, 3) and end["timing"]["run"] >= 0


def test_a_call_to_a_session_too(shell: Shell, client: warmd.Client) -> None:
    with client.session(GOOD) as session:
        (told,) = shell.json("call", session.id, "add", '{"a": 1, "b": 2}', "--detach")
        assert told["session"] == session.id
        assert shell("attach", told["call"]) == ["3"]


def test_a_detached_call_ends_for_its_reader_as_it_ends(shell: Shell) -> None:
    (call,) = shell("run", RAISES, "--function", "value_error", "--detach")
    assert shell("attach", call) == []
    assert shell.code == 1 and "ValueError" in shell.err
    (error,) = shell.json("attach", call)
    assert (error["error"]["code"], error["error"]["call"]) == ("APP_ERROR", call)


def test_a_refusal_is_told_at_once(shell: Shell) -> None:
    assert shell("run", GOOD, "--function", "_private", "--detach") == []
    assert shell.code == 2 and "private" in shell.err


def test_detached_calls_are_listed(shell: Shell) -> None:
    (call,) = shell("run", GOOD, "--function", "count_up", "n=3", "--detach")
    shell("attach", call)
    (row,) = [line.split() for line in shell("calls") if line.startswith(call)]
    assert row[1:4] == ["count_up", "done", "ok"] and row[-2:] == ["3", "(pool)"]
    (listed,) = shell.json("calls")
    assert call in [info["id"] for info in listed["calls"]]


def test_without_any_the_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with warmd.testing.daemon() as own:
        shell = Shell(own.address, capsys)
        assert shell("calls") == [] and "no detached calls" in shell.err


def test_the_beginning_of_an_id_will_do(shell: Shell, client: warmd.Client) -> None:
    with client.session(f"{ZOO.with_name('zoo_hangs.py')}:Hangs") as session:
        (call,) = shell("call", session.id, "sleep", "--detach")
        assert shell("cancel", call[:8].upper()) == [call]
        assert shell("attach", call[:8]) == [] and shell.code == 130


def test_a_call_is_cancelled_by_its_id(shell: Shell, client: warmd.Client) -> None:
    with client.session(f"{ZOO.with_name('zoo_hangs.py')}:Hangs") as session:
        (call,) = shell("call", session.id, "sleep", "--detach")
        assert shell("cancel", call) == [call]
        assert shell("attach", call) == [] and shell.code == 130
        assert shell("cancel", call) == [] and shell.code == 0
        (told,) = shell.json("cancel", call)
        assert told["cancelled"] == []


@pytest.mark.parametrize("command", ["attach", "cancel"])
def test_a_call_that_nobody_knows(command: str, shell: Shell) -> None:
    shell(command, UNKNOWN)
    assert shell.code == 3 and "unknown to this daemon" in shell.err
    shell(command, "xy")
    assert shell.code == 2 and "32 hex digits" in shell.err


def test_to_stream_and_to_detach_is_a_contradiction(shell: Shell) -> None:
    shell("run", GOOD, "--detach", "--stream")
    assert shell.code == 2 and "warmd attach" in shell.err


def test_ctrl_c_leaves_the_call_alone(client: warmd.Client) -> None:
    with client.session(f"{ZOO.with_name('zoo_hangs.py')}:Hangs") as session:
        call = client.submit(session=session.id, function="stuck_stream", detach=True)
        command = [sys.executable, "-m", "warmd", "--host", client.address, "attach", call.call_id]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None and reader.stdout.readline().strip(), "it reads"
            os.kill(reader.pid, signal.SIGINT)
            _, err = reader.communicate(timeout=20)
        assert reader.returncode == 130 and "the call goes on" in err
        assert client.calls.get(call.call_id).state == "running"
        call.cancel()


def test_completion_offers_detached_calls(shell: Shell, client: warmd.Client) -> None:
    (call,) = shell("run", GOOD, "--detach")
    context = click.Context(cli)
    context.params["host"] = client.address
    offered = [item.value for item in complete_calls(context, click.Argument(["call"]), call[:6])]
    assert call in offered
