from __future__ import annotations

import gc
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from tests.worker.daemon import PATIENCE_SECONDS, TOKEN, FakeDaemon
from warmd import __version__
from warmd.protocol.messages import PROTOCOL
from warmd.protocol.work import Finish, Ready, StartFailed


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def starting(daemon: FakeDaemon, python: str) -> list[str]:
    """What loky's child does for an app with an interpreter of its own."""
    call = f"start_worker({daemon.door_path!r}, {python!r})"
    return command(f"from warmd.daemon.worker.main import start_worker; {call}")


def test_arrived_then_ready(daemon: FakeDaemon) -> None:
    daemon.spawn()
    arrived = daemon.admit()
    assert (arrived.protocol, arrived.version, arrived.token) == (PROTOCOL, __version__, TOKEN)
    assert arrived.pid == daemon.pid
    daemon.begin("zoo:Good")
    ready = daemon.next()
    assert isinstance(ready, Ready)
    assert "run" in ready.functions
    assert not {"setup", "unload", "prop", "Inner", "number", "_private"} & set(ready.functions)
    assert ready.imports_seconds > 0
    assert not ready.on_cancel


def test_what_the_process_is(daemon: FakeDaemon) -> None:
    daemon.start("Good")
    assert os.getsid(daemon.pid) == os.getpgid(daemon.pid) == daemon.pid
    assert int(Path(f"/proc/{daemon.pid}/oom_score_adj").read_text()) >= 500
    assert len(list(Path(f"/proc/{daemon.pid}/task").iterdir())) == 1


def test_a_sync_app_imports_little(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(
        "import sys\nclass App:\n    def run(self):\n        return sorted(set(sys.modules) & "
        "{'asyncio', 'zmq', 'psutil', 'numpy', 'logging', 'loky', 'click', 'warmd.daemon.core'})\n"
    )
    assert isinstance(daemon.start("small:App", paths=(str(tmp_path),)), Ready)
    assert daemon.value("run") == []


def test_setup_seconds_are_setups(daemon: FakeDaemon) -> None:
    ready = daemon.start("SetupSlow", setup=0.2)
    assert 0.2 <= ready.setup_seconds < 5
    assert daemon.value("run") == "ran"


@pytest.mark.parametrize(
    ("target", "phase", "kind", "text"),
    [
        ("SetupRaises", "setup", "ValueError", "setup does not want to"),
        ("SetupExits", "setup", "SystemExit", "4"),
        ("InitRaises", "setup", "ValueError", "no instance"),
        ("God", "imports", "ImportError", "did you mean 'Good'?"),
        ("not_a_class", "imports", "TypeError", "is a function, not a class"),
        ("nowhere:App", "imports", "ModuleNotFoundError", "No module named 'nowhere'"),
    ],
)
def test_failed_starts(daemon: FakeDaemon, target: str, phase: str, kind: str, text: str) -> None:
    failed = daemon.start(target)
    assert isinstance(failed, StartFailed)
    assert (failed.phase, failed.type) == (phase, kind)
    assert text in failed.message
    assert "daemon/worker" not in failed.traceback
    assert daemon.exit_code() == 1
    assert failed.traceback in daemon.log_text()


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("raise ValueError('at import')", "ValueError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("def broken(:", "SyntaxError"),
        ("import no_such_thing", "ModuleNotFoundError"),
    ],
)
def test_failed_imports(daemon: FakeDaemon, tmp_path: Path, source: str, kind: str) -> None:
    (tmp_path / "bad.py").write_text(source + "\n")
    failed = daemon.start("bad:App", paths=(str(tmp_path),))
    assert isinstance(failed, StartFailed)
    assert (failed.phase, failed.type) == ("imports", kind)
    assert "bad.py" in failed.traceback
    assert "importlib" not in failed.traceback


@pytest.mark.parametrize(("target", "code"), [("SetupDies", 12), ("SetupCrashes", -11)])
def test_deaths_in_setup(daemon: FakeDaemon, target: str, code: int) -> None:
    with pytest.raises((EOFError, ConnectionResetError)):
        daemon.start(target)
    assert daemon.exit_code() == code


@pytest.mark.parametrize(
    ("target", "setup", "text"),
    [
        ("Hangs", {"x": 1}, "setup() takes no input"),
        ("Forks", {"x": 1}, "app zoo has no setup()"),
    ],
)
def test_a_setup_value_that_nobody_takes(daemon: FakeDaemon, target: str, setup: Any, text: str) -> None:
    failed = daemon.start(target, setup=setup)
    assert isinstance(failed, StartFailed)
    assert text in failed.message


def test_folder_and_paths(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "inference.py").write_text(
        "import os, helper\nclass App:\n    def run(self):\n        return [os.getcwd(), helper.x]\n"
    )
    (tmp_path / "helper.py").write_text("x = 5\n")
    assert isinstance(daemon.start("inference:App", paths=(str(tmp_path),), cwd=str(tmp_path)), Ready)
    assert daemon.value("run") == [str(tmp_path), 5]


def test_a_class_by_value(daemon: FakeDaemon) -> None:
    class Local:
        def run(self, input: Any) -> Any:
            return [input, __name__]

    daemon.spawn()
    daemon.admit()
    pickled = cloudpickle.dumps(Local)
    daemon.begin("", pickled=pickled)
    ready = daemon.next()
    assert isinstance(ready, Ready), ready
    assert daemon.value("run", 1) == [1, __name__]


@pytest.mark.parametrize("pickled", [b"", b"not a pickle", cloudpickle.dumps(5)])
def test_no_class_by_value(daemon: FakeDaemon, pickled: bytes) -> None:
    daemon.spawn()
    daemon.admit()
    daemon.begin("", pickled=pickled)
    failed = daemon.next()
    assert isinstance(failed, StartFailed)
    assert failed.phase == "imports"


def test_another_interpreter_by_exec(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Same pid, nothing of the first interpreter's descriptors, and the environment's own paths."""
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    python = venv / "python"
    python.symlink_to(sys.executable)
    read, write = os.pipe()
    try:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        root = tmp_path / "root"
        root.mkdir()
        _link_package(root / "warmd")
        daemon.spawn(
            starting(daemon, str(python)), env={"PYTHONPATH": f"{root}{os.pathsep}{path}"}, pass_fds=[write]
        )
        assert daemon.admit().pid == daemon.pid
        daemon.begin("zoo:Good", python=str(python))
        assert isinstance(daemon.next(), Ready)
        assert Path(f"/proc/{daemon.pid}/cmdline").read_bytes().split(b"\0")[0] == str(python).encode()
        held = {os.readlink(entry) for entry in Path(f"/proc/{daemon.pid}/fd").iterdir()}
        assert os.readlink(f"/proc/self/fd/{write}") not in held
        daemon.tell(Finish("ended"))
        assert daemon.exit_code() == 0
    finally:
        os.close(read)
        os.close(write)


def _link_package(package: Path) -> None:
    """The import layout of an installed warmd, by links into this tree."""
    here = Path(__file__).resolve().parents[2]
    package.mkdir()
    for entry in (here / "sdk").iterdir():
        (package / entry.name).symlink_to(entry)
    for name in ("daemon", "protocol", "apps"):
        (package / name).symlink_to(here / name)


def test_an_interpreter_that_cannot_be_run(daemon: FakeDaemon) -> None:
    daemon.spawn(starting(daemon, "/no/python"))
    daemon.admit()
    daemon.begin("zoo:Good", python="/no/python")
    failed = daemon.next()
    assert isinstance(failed, StartFailed)
    assert "the interpreter /no/python cannot be run: No such file or directory" in failed.message


def test_the_same_interpreter_is_kept(daemon: FakeDaemon) -> None:
    daemon.spawn(starting(daemon, sys.executable))
    daemon.admit()
    assert b"-c" in Path(f"/proc/{daemon.pid}/cmdline").read_bytes().split(b"\0")


def test_through_loky(daemon: FakeDaemon) -> None:
    from loky.backend import get_context

    from warmd.daemon.worker.main import start_worker

    env = {"WARMD_WORKER_TOKEN": TOKEN, "WARMD_DAEMON_PID": str(os.getpid())}
    process = get_context("loky").Process(target=start_worker, args=(daemon.door_path,), env=env)
    process.start()
    try:
        assert daemon.admit().pid == process.pid
        daemon.begin("zoo:Good")
        assert isinstance(daemon.next(), Ready)
        assert daemon.value("run", 1)["n"] == 1
        daemon.tell(Finish("ended"))
        process.join(10)
        assert process.exitcode == 0
    finally:
        process.terminate()
        process.join(10)
        del process
        gc.collect()  # loky closes its pipe in a finalizer


def test_a_parent_that_is_not_the_daemon(daemon: FakeDaemon) -> None:
    daemon.spawn(env={"WARMD_DAEMON_PID": "1"}, stderr=-3)
    assert daemon.exit_code() == 1


def test_the_parents_death_is_the_workers(daemon: FakeDaemon) -> None:
    """Also while C code holds the interpreter, where end-of-file would not be seen."""
    code = (
        "import os, subprocess, sys\n"
        "env = {**os.environ, 'WARMD_DAEMON_PID': str(os.getpid())}\n"
        f"subprocess.Popen([sys.executable, '-m', 'warmd.daemon.worker', {daemon.door_path!r}], env=env)\n"
        "sys.stdin.read()\n"
    )
    daemon.spawn(command(code), stdin=-1)
    pid = daemon.admit().pid
    worker = os.pidfd_open(pid)
    try:
        daemon.begin("zoo:Hangs")
        assert isinstance(daemon.next(), Ready)
        daemon.entered("c_loop")
        assert daemon.process is not None
        daemon.process.kill()
        assert select.select([worker], [], [], PATIENCE_SECONDS)[0], "the worker lives on"
    finally:
        os.close(worker)
        if daemon.process is not None and daemon.process.stdin is not None:
            daemon.process.stdin.close()


def test_a_daemon_that_never_begins(daemon: FakeDaemon) -> None:
    daemon.spawn(stderr=-3)
    daemon.admit()
    assert daemon.link is not None
    daemon.link.close()
    assert daemon.exit_code() != 0


HALF_A_BEGIN = """
import socket
from warmd.daemon.worker.link import Link
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
ours.settimeout(0.1)
link = Link(ours)
theirs.send(bytes(3))
try:
    link.receive_with_files(0)
except TimeoutError:
    print("gave up")
"""


def test_a_worker_waits_for_its_whole_begin_no_longer_than_for_the_door() -> None:
    run = command(HALF_A_BEGIN)
    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert done.stdout == "gave up\n"
