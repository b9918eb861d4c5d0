"""`warmd doctor`: each check with its fault staged, in places of the test's own where that is possible."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import warmd
from tests.sdk.fakedaemon import fake_daemon
from warmd.cli import hostchecks, main, placechecks
from warmd.cli.findings import Finding, Host, examined
from warmd.protocol.keys import KeyFolder

GIB = 2**30
TOKEN = "WARMD_WORKER_TOKEN"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine on which all is well, as files."""
    for name, text in {
        "proc/self/environ": "",
        "proc/self/mountinfo": "20 1 0:5 / /proc rw,nosuid - proc proc rw\n1 0 8:1 / / rw - ext4 /dev/x rw\n",
        "proc/self/cgroup": "0::/user.slice\n",
        "proc/1/comm": "systemd\n",
        "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\nSwapFree: 0 kB\n",
        "proc/locks": "",
        "sys/fs/cgroup/user.slice/memory.events": "oom 0\noom_kill 0\n",
    }.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "root"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def host(root: Path, run_dir: Path, tmp_path: Path) -> Host:
    home = tmp_path / "home"
    home.mkdir()
    return Host(None, {"WARMD_RUN_DIR": str(run_dir), "HOME": str(home), "TMPDIR": str(home)}, root, cwd=home)


def told(check: Any, host: Host) -> list[tuple[str, str]]:
    return list(check(host))


def the_fault(check: Any, host: Host, level: str) -> str:
    found = [text for said, text in told(check, host) if said == level]
    assert len(found) == 1, told(check, host)
    assert ": " in found[0], "a remedy follows"
    return found[0]


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


ALL = {**hostchecks.CHECKS, **placechecks.CHECKS}


@pytest.mark.parametrize("name", ALL)
def test_where_nothing_is_wrong_each_check_says_so(name: str, host: Host) -> None:
    found = told(ALL[name], host)
    assert found
    assert {level for level, _ in found} <= {"ok", "warn"} if name == "descriptors" else {"ok"}


def test_an_old_python(host: Host) -> None:
    old = Host(None, host.environ, host.root, (3, 10, 4), host.cwd)
    assert "3.10.4 is too old" in the_fault(hostchecks.python, old, "bad")


def test_a_library_that_is_missing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "loky":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", version)
    assert "loky is not installed" in the_fault(hostchecks.libraries, host, "bad")


def test_a_libzmq_without_curve(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    import zmq

    monkeypatch.setattr(zmq, "has", lambda what: what != "curve")
    assert "without CURVE" in the_fault(hostchecks.libraries, host, "warn")


@pytest.mark.parametrize(("hard", "level"), [(1024, "warn"), (256, "bad")])
def test_few_descriptors(host: Host, monkeypatch: pytest.MonkeyPatch, hard: int, level: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (hard, hard))
    assert f"{hard} files at most" in the_fault(hostchecks.descriptors, host, level)


def test_an_old_kernel(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="4.19.0-21-amd64"))
    assert "4.19.0-21-amd64 is too old" in the_fault(hostchecks.kernel, host, "bad")


def test_a_system_call_that_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert "refuses pidfd_open" in the_fault(hostchecks.kernel, host, "bad")


def test_no_proc(host: Host) -> None:
    (host.root / "proc/self/environ").unlink()
    assert "is not mounted" in the_fault(hostchecks.proc, host, "bad")


def test_hidden_processes(host: Host) -> None:
    write(host.root, "proc/self/mountinfo", "20 1 0:5 / /proc rw - proc proc rw,hidepid=ptraceable\n")
    assert "hidepid=ptraceable" in the_fault(hostchecks.proc, host, "bad")
    write(host.root, "proc/self/mountinfo", "20 1 0:5 / /proc rw - proc proc rw,hidepid=invisible\n")
    assert told(hostchecks.proc, host)[0][0] == "ok"


def test_a_kernel_that_does_not_say_whom_it_killed(host: Host) -> None:
    (host.root / "sys/fs/cgroup/user.slice/memory.events").unlink()
    assert "lack of memory" in the_fault(hostchecks.cgroup, host, "warn")
    write(host.root, "proc/vmstat", "oom_kill 0\n")
    assert "sets no limit" in told(hostchecks.cgroup, host)[0][1]


def test_the_limit_of_the_cgroup_is_told(host: Host) -> None:
    write(host.root, "sys/fs/cgroup/user.slice/memory.max", f"{GIB}\n")
    assert "to 1.0G" in told(hostchecks.cgroup, host)[0][1]


def test_a_delegated_cgroup_is_named(host: Host, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "proc/self/mountinfo", "31 1 0:27 / /sys/fs/cgroup rw - cgroup2 none rw\n")
    assert "none is delegated" in told(hostchecks.cgroup, host)[0][1]
    monkeypatch.setattr(os, "getxattr", lambda *_: b"1")
    assert "user.slice is delegated" in told(hostchecks.cgroup, host)[0][1]


def test_a_container_whose_first_process_reaps_nobody(host: Host) -> None:
    write(host.root, ".dockerenv", "")
    write(host.root, "proc/1/comm", "python\n")
    assert "--init" in the_fault(hostchecks.container, host, "warn")


def test_little_shared_memory(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_blocks=64 * 256, f_frsize=4096))
    assert "--shm-size" in the_fault(hostchecks.container, host, "warn")


def test_little_memory(host: Host) -> None:
    write(host.root, "proc/meminfo", "MemAvailable: 100000 kB\nSwapFree: 0 kB\n")
    assert "97.7M of memory" in the_fault(hostchecks.memory, host, "warn")


def test_a_temporary_folder_that_is_not_there(host: Host) -> None:
    gone = Host(None, {"TMPDIR": str(host.root / "none")}, host.root)
    assert "set TMPDIR" in the_fault(hostchecks.temporary, gone, "bad")


def test_a_login_session_that_does_not_linger(host: Host) -> None:
    (host.root / "run/systemd/system").mkdir(parents=True)
    there = Host(None, {**host.environ, "XDG_SESSION_ID": "2"}, host.root)
    assert "loginctl enable-linger" in the_fault(hostchecks.logout, there, "warn")
    write(host.root, "etc/systemd/logind.conf", "[Login]\nKillUserProcesses=yes\n")
    assert "KillUserProcesses=yes" in the_fault(hostchecks.logout, there, "warn")


def test_a_run_directory_that_others_may_enter(host: Host, run_dir: Path) -> None:
    run_dir.chmod(0o755)
    assert "chmod 700" in the_fault(placechecks.run_directory, host, "warn")


def test_a_run_directory_that_is_a_link(host: Host, run_dir: Path) -> None:
    run_dir.rmdir()
    run_dir.symlink_to(host.root)
    assert "symbolic link" in the_fault(placechecks.run_directory, host, "bad")


def test_a_run_directory_of_somebody_else(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert "belongs to uid" in the_fault(placechecks.run_directory, host, "bad")


def test_a_run_directory_that_cannot_be_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_given: False)
    assert "is not writable" in the_fault(placechecks.run_directory, host, "bad")


def test_a_run_directory_that_cannot_be_made(
    host: Host, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir.rmdir()
    assert "will be made" in told(placechecks.run_directory, host)[0][1]
    monkeypatch.setattr(os, "access", lambda *_given: False)
    assert "cannot be made" in the_fault(placechecks.run_directory, host, "bad")
    run_dir.write_text("")
    below = Host(None, {**host.environ, "WARMD_RUN_DIR": str(run_dir / "below")}, host.root)
    assert f"{run_dir} is a file" in the_fault(placechecks.run_directory, below, "bad")


def test_a_path_that_is_too_long(host: Host, tmp_path: Path) -> None:
    far = Host(None, {"WARMD_RUN_DIR": str(tmp_path / ("x" * 110))}, host.root)
    assert "the limit is 107" in the_fault(placechecks.run_directory, far, "bad")


def test_a_full_disk(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(f_bavail=0, f_frsize=4096, f_favail=10**6, f_files=10**6)
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    assert "has only 0B" in the_fault(placechecks.run_directory, host, "bad")
    assert "has only 0B" in the_fault(placechecks.log_directory, host, "bad")
    full.f_bavail, full.f_favail = 10**9, 3
    assert "and 3 inodes" in the_fault(placechecks.run_directory, host, "warn")


def test_a_run_directory_on_nfs(host: Host, run_dir: Path) -> None:
    write(host.root, "proc/self/mountinfo", f"1 0 8:1 / {run_dir} rw - nfs4 server:/x rw\n")
    assert "lies on nfs4" in the_fault(placechecks.run_directory, host, "bad")


def test_a_place_that_takes_no_files(host: Host, run_dir: Path) -> None:
    write(host.root, "proc/self/mountinfo", f"1 0 8:1 / {run_dir.parent} rw - proc proc rw\n")
    assert "lies on proc" in the_fault(placechecks.run_directory, host, "bad")
    run_dir.rmdir()
    assert "which takes no files: set WARMD_RUN_DIR" in the_fault(placechecks.run_directory, host, "bad")
    assert "would lie on proc; set WARMD_RUN_DIR" in the_fault(placechecks.log_directory, host, "bad")


def test_logs_that_cannot_be_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_given: False)
    assert "logs cannot be written" in the_fault(placechecks.log_directory, host, "bad")


def test_keys_that_others_could_add_to(host: Host, run_dir: Path) -> None:
    KeyFolder(run_dir / "keys").add("laptop")
    assert told(placechecks.keys, host) == [("ok", "over TCP may connect: laptop")]
    (run_dir / "keys").chmod(0o750)
    assert "run `chmod 700" in the_fault(placechecks.keys, host, "bad")


def test_a_variable_that_is_none_of_ours(host: Host) -> None:
    other = Host(None, {**host.environ, "WARMD_MAX_SESION": "3"}, host.root, cwd=host.cwd)
    assert "did you mean WARMD_MAX_SESSIONS" in the_fault(placechecks.settings, other, "bad")


def test_variables_of_the_gateway(host: Host) -> None:
    sound, odd = ({**host.environ, "WARMD_HTTP_RATE": rate} for rate in ("5", "often"))
    assert [level for level, _ in told(placechecks.settings, replace(host, environ=sound))] == ["ok"]
    assert "WARMD_HTTP_RATE: 'often'" in the_fault(placechecks.settings, replace(host, environ=odd), "bad")


def test_a_file_with_an_error(host: Host) -> None:
    write(host.cwd, ".config/warmd/config.toml", "session_timeout = 0\n")
    text = the_fault(placechecks.settings, host, "bad")
    assert "config.toml" in text and "session_timeout" in text


def test_a_named_file_that_is_not_there(host: Host) -> None:
    other = Host(None, {**host.environ, "WARMD_CONFIG": "/none.toml"}, host.root, cwd=host.cwd)
    assert "there is no file /none.toml" in told(placechecks.settings, other)[0][1]


def test_the_files_that_are_read_are_named(host: Host) -> None:
    write(host.cwd, "warmd.toml", "max_sessions = 3\n")
    write(host.cwd, "pyproject.toml", "[project]\n")
    text = told(placechecks.settings, host)[0][1]
    assert "warmd.toml" in text and "pyproject" not in text


def test_apps_that_are_not_there(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("lost", "no_such_package.app:App", "warmd.apps")
    monkeypatch.setattr(metadata, "entry_points", lambda **_given: [entry])
    assert "there is no no_such_package" in the_fault(placechecks.apps, host, "warn")
    monkeypatch.undo()
    other = Host(None, {"WARMD_APPS": "/none:"}, host.root)
    assert "no such folder" in the_fault(placechecks.apps, other, "warn")


def test_a_socket_and_a_pid_of_a_daemon_that_died(host: Host, run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / "warmd.sock"))
    assert "the next start clears it away" in the_fault(placechecks.stale, host, "warn")
    (run_dir / "warmd.sock").unlink()
    (run_dir / "pid").write_text("4711\n")
    assert "names process 4711" in the_fault(placechecks.stale, host, "warn")


def test_a_lock_whose_holder_does_not_listen(host: Host, run_dir: Path) -> None:
    real = Host(None, host.environ, Path("/"))
    with open(run_dir / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "does not listen" in the_fault(placechecks.stale, real, "bad")
    assert told(placechecks.stale, real) == [("ok", "no stale files")]


@pytest.fixture
def orphan(run_dir: Path) -> Iterator[int]:
    """A process that looks like the worker of a daemon that is gone."""
    marks = {TOKEN: "x", "WARMD_RUN_DIR": str(run_dir), "WARMD_DAEMON_PID": str(2**22 + 1)}
    sleeper = subprocess.Popen(
        [sys.executable, "-c", "input()"], env={**os.environ, **marks}, stdin=subprocess.PIPE
    )
    yield sleeper.pid
    sleeper.communicate()


def test_workers_of_a_dead_daemon(host: Host, orphan: int) -> None:
    real = Host(None, host.environ, Path("/"))
    assert str(orphan) in the_fault(placechecks.leftovers, real, "bad")


def test_a_daemon_that_does_not_answer(host: Host, run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(run_dir / "warmd.sock"))
        deaf.listen()
        (run_dir / "pid").write_text("4711\n")
        text = the_fault(placechecks.daemon, host, "bad")
    assert "did not answer within 3 s" in text and "kill 4711" in text


def test_a_daemon_of_another_version_that_lost_lines(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from warmd.cli import link

    status = {"version": "0.0.1", "pid": 1, "log_errors": 2, "log_error": "no space", "log_lines_dropped": 5}
    monkeypatch.setattr(link, "running_daemon", lambda _client: status)
    levels = [level for level, _ in told(placechecks.daemon, host)]
    assert levels == ["ok", "warn", "warn", "warn"]


def test_a_daemon_that_speaks_another_protocol(host: Host) -> None:
    with fake_daemon() as fake:
        fake.path.unlink()
        there = Host(str(fake.path), host.environ, host.root)
        assert told(placechecks.daemon, there)[0][0] == "ok", "a socket that is gone is no daemon"


def test_a_check_that_fails_says_so(host: Host) -> None:
    def broken(_host: Host) -> Any:
        yield "ok", "so far"
        raise RuntimeError("two\nlines")

    assert examined(host, {"it": broken, "next": lambda _host: [("ok", "well")]}) == [
        Finding("warn", "it", "this could not be examined: RuntimeError: two lines"),
        Finding("ok", "next", "well"),
    ]


def test_the_command_with_a_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    with warmd.local() as client:
        client.status()
        code = main(["--host", client.address, "doctor", "--json"])
        said = json.loads(capsys.readouterr().out)
    texts = [finding["text"] for finding in said["findings"]]
    assert any(f"answers at {client.address}" in text for text in texts)
    assert code == (0 if said["healthy"] else 1)


def test_the_exit_code_where_something_is_bad(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WARMD_RUN_DIR", str(run_dir))
    monkeypatch.setenv("WARMD_CONFIG", "/none.toml")
    assert main(["doctor"]) == 1
    assert "bad   settings" in capsys.readouterr().out
