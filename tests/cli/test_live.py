"""What `run` and `call` print while a call goes on: progress on terminals, and the log where asked for."""

from __future__ import annotations

import pytest

import warmd
from tests.cli.shell import Shell
from tests.faults.watch import until
from tests.sdk.gpubox import GIB, GPU, gpu_box
from warmd.cli import live as live_module
from warmd.cli.live import Live, in_words
from warmd.cli.talk import START_OF_LINE, short

APP = """
import sys
import time
from pathlib import Path

import warmd

class App:
    def setup(self, gate=None):
        print("set up")
        while gate is not None and not Path(gate).exists():
            time.sleep(0.01)

    def run(self, n=3):
        for number in range(n):
            warmd.context.progress({"n": number + 1, "total": n, "desc": "steps"})
            print("step", number)
        return n

    def wait_for(self, path):
        warmd.context.progress({"n": 1, "total": 2, "desc": "waiting"})
        while not Path(path).exists():
            time.sleep(0.01)

    def fail(self):
        print("about to fail", file=sys.stderr)
        raise ValueError("no")

    def parts(self):
        for number in range(2):
            print("yielding", number)
            yield number
"""


@pytest.fixture(scope="module")
def client():
    with warmd.local() as client:
        client.status()
        yield client


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return str(tmp_path)


@pytest.fixture
def shell(client, capsys):
    return Shell(client.address, capsys)


def test_the_log_of_a_new_session_from_its_beginning(shell, app):
    assert shell("run", app, "-s", "new", "--logs") == ["3"]
    log, _, talk = shell.err.partition("session ")
    assert log == "set up\nstep 0\nstep 1\nstep 2\n"
    assert "cold" in talk


def test_of_a_session_that_exists_only_what_comes_now(shell, client, app):
    with client.session(app) as session:
        session.call("run")
        assert shell("call", session.id, "n=1", "--logs") == ["1"]
        assert shell.err.startswith("step 0\nsession ")
        shell("call", session.id, "parts", "--stream", "--logs")
        assert shell.out == "0\n1\n"
        assert shell.err.startswith("yielding 0\nyielding 1\nsession ")


def test_what_a_call_that_fails_has_written_comes_before_its_error(shell, app):
    shell("run", app, "-f", "fail", "-s", "new", "--logs")
    assert shell.code == 1
    assert shell.err.startswith("set up\nabout to fail\n")
    assert "ValueError: no" in shell.err


def test_an_app_that_does_not_start_shows_its_log_and_why(shell, app, tmp_path):
    (tmp_path / "app.py").write_text("print('importing')\nraise OSError('no disk')\nclass App: ...")
    shell("run", app, "-s", "new", "--logs")
    assert shell.code == 1
    assert "importing the app failed: OSError: no disk" in shell.err


@pytest.mark.parametrize("words", [["--logs"], ["--logs", "-s", "new", "--detach"]])
def test_there_is_no_log_to_follow(shell, app, words):
    shell("run", app, *words)
    assert shell.code == 2
    assert "--logs" in shell.err


@pytest.fixture
def gate(monkeypatch, tmp_path):
    """A terminal; the file appears when something is shown on it."""
    monkeypatch.setattr(live_module, "on_terminal", lambda: True)
    monkeypatch.setattr(live_module, "LONG_SECONDS", 0.01)
    write, gate = Live._write, tmp_path / "gate"

    def seen(live, line):
        write(live, line)
        if line:
            gate.touch()

    monkeypatch.setattr(Live, "_write", seen)
    return gate


def test_without_a_terminal_there_is_no_progress(shell, app):
    assert shell("run", app) == ["3"]
    assert "steps" not in shell.err


def test_progress_is_a_line_that_goes_again(shell, app, gate):
    assert shell("run", app, "-f", "wait_for", f"path={gate}") == ["null"]
    _, told, after = shell.err.partition("waiting  50% ██████████           1/2")
    assert told
    assert after.startswith(START_OF_LINE)
    assert after.split(START_OF_LINE)[-1].startswith("shared pool")


@pytest.mark.parametrize("session", [[], ["-s", "new"]])
def test_a_start_that_takes_long_shows_what_it_writes(shell, app, gate, session):
    assert shell("run", app, "n=0", "--setup", f'"{gate}"', *session) == ["0"]
    assert f"set up{START_OF_LINE}" in shell.err


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("half  way\n there", "half way there"),
        ({"step": 3}, '{"step": 3}'),
        (0.5, "0.5"),
        ({"n": 3}, "3"),
        ({"n": 3, "total": None, "rate": None, "desc": ""}, "3"),
        ({"n": 5, "total": 4}, "100% ████████████████████ 5/4"),
        ({"n": True, "total": 0}, "1"),
        ("x" * 200, "x" * 100),
    ],
)
def test_progress_in_words(value, words):
    assert in_words(value) == words


@pytest.mark.parametrize("is_parked", [False, True])
def test_a_wait_for_gpu_memory_is_told_while_it_lasts(tmp_path, capsys, monkeypatch, is_parked):
    monkeypatch.setattr(live_module, "on_terminal", lambda: True)
    monkeypatch.setattr(live_module, "LONG_SECONDS", 0.01)
    write, lines = Live._write, []
    with gpu_box(tmp_path) as box:

        def seen(live, line):
            write(live, line)
            lines.append(line)
            if line.startswith("waits"):
                box.gpus.stranger(GPU, 0)

        monkeypatch.setattr(Live, "_write", seen)
        session = "new"
        if is_parked:
            session = box.client.session("llama").id
            box.client.sessions.park(session)
        box.gpus.stranger(GPU, 10 * GIB)
        until(lambda: is_parked is False or box.client.status().gpus[0]["used"] >= 10 * GIB)
        shell = Shell(box.client.address, capsys)
        words = ["call", session] if is_parked else ["run", "llama", "-s", session]
        assert shell(*words) == ["true"]
        told = session if is_parked else box.client.sessions.list()[0]["id"]
        assert lines[0] == f"waits for GPU memory: `warmd why {short(told)}` says who has it"
        assert lines[1] == "", "it has its memory"
