"""The daemon as a process of its own, from its start to its end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.daemon.rawclient import RawClient
from warmd.protocol import messages as msg
from warmd.protocol import places, values

CODE = """
import json, sys
from warmd.daemon import config, main
flags, ready, lifeline, private = json.loads(sys.argv[1])
sys.exit(main.serve(config.load(flags, {}, []), ready, lifeline, private))
"""
SLOW = """
import time, pathlib
class App:
    def wait(self, input):
        pathlib.Path(input["started"]).write_text("in")
        time.sleep(input["seconds"])
        return "done"
"""


class Daemon:
    """`main.serve` in a subprocess; `said` is what came on its ready descriptor."""

    def __init__(self, run_dir: Path, private: bool = False, **flags: object) -> None:
        self.run_dir = run_dir
        ready, ready_end = os.pipe()
        lifeline_end, self._lifeline = os.pipe()
        arguments = json.dumps([{"run_dir": str(run_dir), **flags}, ready_end, lifeline_end, private])
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, arguments],
            pass_fds=(ready_end, lifeline_end),
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(ready_end)
        os.close(lifeline_end)
        with open(ready, encoding="utf-8") as reader:
            assert select.select([reader], [], [], 20)[0], "the daemon says nothing"
            self.said = reader.read()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut_lifeline()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=20)

    def cut_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def wait(self) -> tuple[int, str]:
        """The exit code and the log; no descendant may be left by then."""
        family = (
            psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        )
        _, log = self.process.communicate(timeout=20)
        assert [child for child in family if child.is_running() and child.status() != "zombie"] == []
        return self.process.returncode, log

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


@pytest.fixture
def slow_app(tmp_path):
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "app.py").write_text(SLOW)
    return str(folder)


class Entered:
    """A named pipe into which the slow app writes when its function has been entered."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def __enter__(self) -> Entered:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def wait(self) -> None:
        assert select.select([self._fd], [], [], 20)[0], "the function was not entered"


@pytest.fixture
def entered(tmp_path):
    with Entered(tmp_path / "entered") as entered:
        yield entered


def test_a_life(tmp_path):
    with Daemon(tmp_path / "run") as daemon:
        assert daemon.said == "ready\n"
        names = {
            name: (daemon.run_dir / name).lstat().st_mode
            for name in ("warmd.sock", "door.sock", "lock", "pid")
        }
        assert stat.S_ISSOCK(names["warmd.sock"])
        assert all(stat.S_IMODE(mode) & 0o077 == 0 for mode in names.values())
        with RawClient(daemon.run_dir) as client:
            status = client.ask("status")
            assert status["pid"] == daemon.process.pid == client.welcome.pid
            result = client.run("counter")
            assert values.unpack(result.value)["n"] == 1
            (info,) = client.ask("sessions.list")
            assert (info["id"], info["state"], info["calls"]) == (result.session, "idle", 1)
            code, log = daemon.stop()
            assert type(client.next()) is msg.Goodbye
        assert code == 0, log
        assert "serves at unix://" in log
        told = [
            line for line in log.splitlines() if f"session={result.session[:13]} app=counter pid=" in line
        ]
        begins = ("its app is being imported", "starting", "ready: imports")
        assert all(text in line for text, line in zip(begins, told[:3], strict=True))
        assert "ended: " in told[-1]
        assert sorted(os.listdir(daemon.run_dir)) == ["lock", "logs"]


def test_the_log_names_all_its_addresses_and_a_folder_of_apps_that_is_not_there(tmp_path):
    flags = {"listen": "tcp://127.0.0.1:0", "app_folders": str(tmp_path / "gone")}
    with Daemon(tmp_path / "run", **flags) as daemon, RawClient(daemon.run_dir) as client:
        listens = client.ask("status")["listen"]
        code, log = daemon.stop()
    assert code == 0 and f"/run/warmd.sock and {listens} (ready" in log
    assert f"WARMD_APPS names {tmp_path / 'gone'}, and there is no such folder" in log


def test_a_port_that_is_taken_is_told_without_the_systems_numbers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Daemon(tmp_path / "run", listen=f"tcp://127.0.0.1:{port}") as daemon:
            said = f"tcp://127.0.0.1:{port}: Address already in use (setting listen)"
            assert daemon.said.endswith(f"{said}\n") and "Errno" not in daemon.said


def test_a_session_ends_and_its_log_is_served(tmp_path):
    app = tmp_path / "talker.py"
    app.write_text("class App:\n    def run(self, input):\n        print(input)\n")
    with Daemon(tmp_path / "run") as daemon, RawClient(daemon.run_dir) as client:
        session = client.run(str(app), input="hello").session
        follow = client.request("logs", 10, session=session, follow=True)
        part = client.next()
        assert values.unpack(part.value) == b"hello\n"
        client.call(None, input="world", session=session)
        come = {}  # whether the log or the result comes first is nobody's promise
        while not come.keys() >= {msg.Part, msg.Result}:
            message = client.next()
            come[type(message)] = message
        assert values.unpack(come[msg.Part].value) == b"world\n"
        end = client.request("sessions.end", session=session)
        answers = {message.id: message for message in (client.next(), client.next())}
        assert answers[follow].parts == 2
        assert values.unpack(answers[end].value)["state"] == "ended"
        assert client.log(session) == b"hello\nworld\n"
        assert client.ask("sessions.end", session=session)["state"] == "ended"


def test_apps_are_listed(tmp_path):
    with Daemon(tmp_path / "run") as daemon, RawClient(daemon.run_dir) as client:
        assert "counter" in [app["name"] for app in client.ask("apps.list")]
        failure = client.run("countr")
        assert (failure.code, failure.ran) == ("APP_NOT_FOUND", "no")
        assert "did you mean 'counter'?" in failure.message


def test_app_folders_of_every_kind_run(tmp_path):
    files = {
        "plain/app.py": "import helper\nclass App:\n    def run(self): return helper.x",
        "plain/helper.py": "x = 'plain'",
        "single/app.py": "import os\nclass Only:\n    def run(self): return os.path.basename(os.getcwd())",
        "packed/__init__.py": "from .helper import x\nclass App:\n    def run(self): return x",
        "packed/helper.py": "x = 'packed'",
        "related/__init__.py": "",
        "related/app.py": "from .helper import x\nclass App:\n    def run(self): return x",
        "related/helper.py": "x = 'related'",
        "in-fer/inference.py": "class App:\n    def run(self): return 'in-fer'",
    }
    for name, text in files.items():
        path = tmp_path / "apps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with (
        Daemon(tmp_path / "run", app_folders=str(tmp_path / "apps")) as daemon,
        RawClient(daemon.run_dir) as client,
    ):
        for name in ("plain", "single", "packed", "related", "in-fer"):
            result = client.run(name)
            assert type(result) is msg.Result, result
            assert values.unpack(result.value) == name


def test_a_flood_of_output_is_capped_and_disturbs_nobody(tmp_path):
    app = tmp_path / "flood.py"
    app.write_text(
        "import os\nclass App:\n    def run(self, input):\n"
        "        for n in range(input):\n            os.write(1, b'%07d ' % n + b'x' * 1000 + b'\\n')\n"
    )
    with (
        Daemon(tmp_path / "run", log_max_bytes="1MiB") as daemon,
        RawClient(daemon.run_dir) as client,
        RawClient(daemon.run_dir) as other,
    ):
        flood = client.call(str(app), input=50_000)
        slowest = 0.0
        for _ in range(200):
            began = time.monotonic()
            other.ask("status")
            slowest = max(slowest, time.monotonic() - began)
        session = client.answer(flood).session
        assert slowest < 0.5
        path = places.logs_dir(daemon.run_dir) / f"{session}.log"
        client.ask("sessions.end", session=session)
        told = client.log(session)  # Waits for a cut that is under way.
        data = path.read_bytes()
        assert data.endswith(told)
        assert len(data) <= 2**20
        assert data.lstrip(b".").startswith(b" (older lines dropped)\n")
        assert data.endswith(b"0049999 " + b"x" * 1000 + b"\n")
        status = client.ask("status")
        assert (status["log_errors"], status["log_lines_dropped"]) == (0, 0)


def test_a_second_daemon_leaves_the_first_alone(tmp_path):
    with Daemon(tmp_path / "run") as first:
        with Daemon(tmp_path / "run") as second:
            code, log = second.wait()
            assert code == 75
            assert f"pid {first.process.pid}" in second.said
            assert "warmd stop" in log
        with RawClient(first.run_dir) as client:
            assert client.ask("status")["pid"] == first.process.pid


def test_the_next_daemon_starts_over_what_a_killed_one_left(tmp_path):
    with Daemon(tmp_path / "run") as daemon:
        with RawClient(daemon.run_dir) as client:
            worker = values.unpack(client.run("counter").value)["pid"]
        pidfd = os.pidfd_open(worker)
        daemon.process.kill()
        assert select.select([pidfd], [], [], 5)[0], "the worker outlives its daemon"
        os.close(pidfd)
        daemon.process.wait(10)
        assert places.socket_path(daemon.run_dir).exists()
    with Daemon(tmp_path / "run") as daemon:
        assert daemon.said == "ready\n"
        with RawClient(daemon.run_dir) as client:
            assert client.ask("sessions.list", all=True) == []
        assert daemon.stop()[0] == 0


def test_end_of_the_lifeline_stops_a_private_daemon_and_its_directory(tmp_path, slow_app, entered):
    with Daemon(tmp_path / "run", private=True) as daemon, RawClient(daemon.run_dir) as client:
        call = client.call(slow_app, "wait", {"started": entered.path, "seconds": 100})
        entered.wait()
        began = time.monotonic()
        daemon.cut_lifeline()
        failure = client.answer(call)
        assert (failure.code, failure.ran) == ("CANCELLED", "maybe")
        assert daemon.wait()[0] == 0
        assert time.monotonic() - began < 5
        assert not daemon.run_dir.exists()


def test_sigterm_lets_calls_finish_and_takes_no_more(tmp_path, slow_app, entered):
    with Daemon(tmp_path / "run") as daemon, RawClient(daemon.run_dir) as client:
        call = client.call(slow_app, "wait", {"started": entered.path, "seconds": 1})
        entered.wait()
        daemon.process.send_signal(signal.SIGTERM)
        while not client.ask("status")["draining"]:
            assert daemon.process.poll() is None
        assert client.run("counter").code == "DRAINING"
        assert values.unpack(client.answer(call).value) == "done"
        assert daemon.wait()[0] == 0


def test_a_second_signal_ends_it_now(tmp_path, slow_app, entered):
    with Daemon(tmp_path / "run") as daemon, RawClient(daemon.run_dir) as client:
        call = client.call(slow_app, "wait", {"started": entered.path, "seconds": 100})
        entered.wait()
        daemon.process.send_signal(signal.SIGINT)
        while not client.ask("status")["draining"]:
            assert daemon.process.poll() is None
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert client.answer(call).code == "CANCELLED"
        assert daemon.wait()[0] == 0
        assert time.monotonic() - began < 5


def test_the_stop_verb_and_hangup(tmp_path):
    with Daemon(tmp_path / "run") as daemon, RawClient(daemon.run_dir) as client:
        daemon.process.send_signal(signal.SIGHUP)
        assert client.ask("status")["draining"] is False
        assert client.ask("stop", drain_seconds=1)["stopping"] is True
        assert type(client.next()) is msg.Goodbye
        code, log = daemon.wait()
        assert code == 0
        assert "SIGHUP" in log


def test_a_directory_that_cannot_be_used_is_explained(tmp_path):
    (tmp_path / "warmd.sock").write_text("precious")
    with Daemon(tmp_path) as daemon:
        code, _ = daemon.wait()
        assert code == 78
        assert "is not a socket: remove it yourself" in daemon.said
    assert (tmp_path / "warmd.sock").read_text() == "precious"
    with Daemon(tmp_path / ("x" * 120)) as daemon:
        assert daemon.wait()[0] == 78
        assert "the limit is 107" in daemon.said


def test_closed_standard_streams_are_no_obstacle(tmp_path):
    run_dir = tmp_path / "run"
    ready, ready_end = os.pipe()
    arguments = json.dumps([{"run_dir": str(run_dir)}, ready_end, None, False])
    close_and_go = (
        "import os, sys; os.closerange(0, 3); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", close_and_go, "-c", CODE, arguments], pass_fds=(ready_end,)
    )
    os.close(ready_end)
    try:
        with open(ready, encoding="utf-8") as reader:
            assert reader.read() == "ready\n"
        with RawClient(run_dir) as client:
            assert values.unpack(client.run("counter").value)["n"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_strangers_at_the_socket_disturb_nobody(tmp_path):
    with Daemon(tmp_path / "run") as daemon, RawClient(daemon.run_dir) as client:
        for path in (places.socket_path(daemon.run_dir), places.door_path(daemon.run_dir)):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(str(path))
                stranger.sendall(os.urandom(1000))
                assert client.ask("status")["sessions"] == 0
        assert daemon.stop()[0] == 0
