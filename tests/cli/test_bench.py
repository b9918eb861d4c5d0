"""`warmd bench` against a real daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.cli.shell import Shell
from warmd.cli import main
from warmd.cli.measure import WARM_UP_CALLS
from warmd.cli.talk import Progress

TESTS = Path(__file__).parents[1]

APP = """
import os, time
class App:
    def setup(self, config):
        self.config, self.n = config, 0
        self.note("setup")
    def run(self, input=None):
        self.n += 1
        self.note(f"call {self.n}")
        return self.n
    def parts(self):
        for number in range(3):
            self.note(f"part {number}")
            yield number
    def note(self, line):
        with open(self.config["notes"], "a") as notes:
            notes.write(f"{os.environ.get('COLOUR')} {line}\\n")
        if line == self.config.get("raise"):
            raise ValueError(f"no luck with {line}")
        if line == self.config.get("die"):
            os._exit(7)
        if line == self.config.get("hang"):
            with open(self.config["fifo"], "w") as fifo:
                fifo.write("in")
            while True:
                time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local() as found:
        found.status()  # connected from here on, so that no test seems to leave a connection behind
        yield found


@pytest.fixture
def shell(client: warmd.Client, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """After each test no session is left."""
    yield Shell(client.address, capsys)
    assert client.sessions.list() == []


@pytest.fixture
def app(tmp_path: Path) -> str:
    (tmp_path / "app.py").write_text(APP)
    return f"{tmp_path}/app.py"


def setup(tmp_path: Path, **config: str) -> tuple[str, str]:
    return "--setup", json.dumps({"notes": f"{tmp_path}/notes", "fifo": f"{tmp_path}/fifo", **config})


def notes(tmp_path: Path) -> list[str]:
    return (tmp_path / "notes").read_text().splitlines()


def check_sample(sample: dict[str, Any]) -> None:
    phases = [sample[name] for name in ("queue", "spawn", "imports", "setup", "first")]
    assert all(seconds > 0 for seconds in phases)
    assert sample["until_first"] == pytest.approx(sum(phases))
    assert sample["total"] >= sample["until_first"] - 1e-6


def test_what_is_measured_is_what_was_asked_for(shell: Shell, app: str, tmp_path: Path) -> None:
    words = ("--cold", "3", "--warm", "10", "--concurrency", "4", "--env", "COLOUR=red", *setup(tmp_path))
    (found,) = shell.json("bench", app, *words)
    assert shell.code == 0
    calls = [f"red call {number}" for number in range(1, 1 + 1 + WARM_UP_CALLS + 10 + 10)]
    assert notes(tmp_path) == ["red setup", "red call 1"] * 2 + ["red setup", *calls]
    assert (len(found["cold"]["samples"]), len(found["warm"]["samples"])) == (3, 10)
    assert (found["concurrent"]["under_way"], found["concurrent"]["calls"]) == (4, 10)
    for sample in found["cold"]["samples"]:
        check_sample(sample)
    assert 0 < found["warm"]["first"]["p50"] <= found["warm"]["first"]["max"]
    assert found["times_sooner"] > 1
    assert (found["app"], found["function"], found["warm_up_calls"]) == (app, "run", WARM_UP_CALLS)
    assert found["machine"]["cores"] >= 1
    assert found["daemon"] == {"address": shell.address, "version": warmd.__version__}


def test_each_cold_session_is_ended_before_the_next(
    shell: Shell, client: warmd.Client, app: str, tmp_path: Path
) -> None:
    before = {info.id for info in client.sessions.list(all=True)}
    shell("bench", app, "--cold", "3", "--warm", "1", *setup(tmp_path))
    opened = [info for info in client.sessions.list(all=True) if info.id not in before]
    assert [info.state for info in opened] == ["ended"] * 3
    assert sorted(info.calls for info in opened) == [1, 1, 2 + WARM_UP_CALLS]


def test_the_page(shell: Shell) -> None:
    lines = shell("bench", "counter", "by=2", "-f", "incr", "--cold", "2", "--warm", "20")
    assert (shell.code, shell.err) == (0, "")
    assert lines[0].startswith("2 cold sessions")
    assert lines[-1].startswith("Cold ") and lines[-1].endswith(" times sooner.")
    assert any(line.startswith("20 warm calls") for line in lines)
    assert any(line.startswith("cold 2  ") for line in lines)


def test_a_generator_of_a_class_in_the_working_directory(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TESTS)
    words = ("zoo:Good", "n=5", "-f", "count_up", "--cold", "1", "--warm", "3")
    (found,) = shell.json("bench", *words)
    assert [sample["parts"] for sample in found["warm"]["samples"]] == [5, 5, 5]
    assert found["cold"]["samples"][0]["parts"] == 5
    assert found["warm"]["parts_per_second"] > 0
    assert all(sample["first"] <= sample["total"] for sample in found["warm"]["samples"])
    lines = shell("bench", *words)
    assert any(line.startswith("first part  ") for line in lines)
    assert any(line.endswith(" parts/s within a call, after the first") for line in lines)


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"raise": "setup"}, 1, "no luck with setup"),
        ({"raise": "call 1"}, 1, "no luck with call 1"),
        ({"raise": "call 6"}, 1, "no luck with call 6"),
        ({"raise": "call 12"}, 1, "no luck with call 12"),
        ({"die": "call 1"}, 4, "exited with code 7"),
        ({"die": "call 6"}, 4, "exited with code 7"),
    ],
)
def test_an_app_that_fails_ends_the_bench(
    config: dict[str, str], code: int, said: str, shell: Shell, app: str, tmp_path: Path
) -> None:
    words = ("--cold", "1", "--warm", "5", "--concurrency", "3", *setup(tmp_path, **config))
    assert shell("bench", app, *words) == []
    assert shell.code == code
    assert shell.err.startswith("warmd: ")
    assert said in shell.err


def test_a_stream_that_fails_after_its_first_part(shell: Shell, app: str, tmp_path: Path) -> None:
    assert shell("bench", app, "-f", "parts", *setup(tmp_path, **{"raise": "part 1"})) == []
    assert shell.code == 1
    assert "no luck with part 1" in shell.err


def test_a_call_that_is_too_slow(shell: Shell, app: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # with no reader, so that the call hangs in opening it
    shell("bench", app, "--timeout", "0.5", *setup(tmp_path, hang="call 1"))
    assert shell.code == 124


@pytest.mark.parametrize("where", ["setup", "call 1", "call 6", "call 13", "part 1"])
def test_ctrl_c_ends_the_session(where: str, shell: Shell, app: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    function = "parts" if where.startswith("part") else "run"
    command = [sys.executable, "-m", "warmd", "--host", shell.address, "bench", app, "-f", function]
    command += ["--cold", "1", "--warm", "5", "--concurrency", "2", *setup(tmp_path, hang=where)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert (tmp_path / "fifo").read_text() == "in"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert "ending the session" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cold", "0"], "'--cold': 0 is not in the range 1<=x<=1000"),
        (["--warm", "0"], "'--warm': 0 is not in the range 1<=x<=1000000"),
        (["--concurrency", "1"], "'--concurrency': 1 is not in the range 2<=x"),
        (["--warm", "many"], "'many' is not a valid integer"),
        (["--setup", "{bad"], "--setup is not JSON"),
        (["--env", "A"], "--env wants KEY=VALUE"),
        (["--local"], "--local is a daemon of its own: leave out --host"),
        (["{bad"], "INPUT is not JSON"),
    ],
)
def test_what_is_refused_before_anything_is_started(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--host", f"{tmp_path}/none.sock", "bench", "counter", *words]) == 2
    assert said in capsys.readouterr().err


def test_refusals_of_the_daemon(shell: Shell, tmp_path: Path) -> None:
    assert shell("bench", "countr") == []
    assert shell.code == 2
    assert "did you mean 'counter'" in shell.err
    shell("bench", "counter", "-f", "none")
    assert shell.code == 2
    assert main(["--host", f"{tmp_path}/none.sock", "bench", "counter"]) == 69


def test_a_daemon_of_its_own_and_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    command = [sys.executable, "-m", "warmd", "bench", "counter", "--local", "--cold", "1", "--warm", "5"]
    done = subprocess.run(
        [*command, "--json", "--plot", str(path)], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, f"drawn: {path}\n")
    assert json.loads(done.stdout)["daemon"]["address"].startswith("unix:///")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_progress_is_a_line_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress() as tell:
        tell("warm call", 1, 200)
        tell("warm call", 2, 200)
    assert capsys.readouterr().err == "\r\033[Kwarm call 1 of 200\r\033[K", "not one a call"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with Progress() as tell:
        tell("warm call", 1, 200)
    assert capsys.readouterr().err == ""
