"""What lies where the daemon's files belong, what is taken away under it, and a disk that is full."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd
from tests.faults.daemons import Daemon, answers, serving
from tests.faults.watch import AT_ONCE_SECONDS, error_of, undisturbed, until, within, zoo

ALREADY_RUNNING, CANNOT_START = 75, 78
NO_DAEMON_SECONDS = 3.0


def start_refused(daemon: Daemon) -> str:
    """Why it did not start."""
    assert daemon.wait() in (ALREADY_RUNNING, CANNOT_START)
    return daemon.log


# Two daemons


def test_of_five_that_start_at_once_one_serves(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    daemons = [Daemon(run_dir) for _ in range(5)]
    try:
        with warmd.Client(str(run_dir / "warmd.sock")) as client:
            until(lambda: sum(daemon.process.poll() is not None for daemon in daemons) == 4)
            until(lambda: answers(client))
            for daemon in daemons:
                if daemon.process.poll() is not None:
                    assert daemon.wait() == ALREADY_RUNNING
                    assert "another daemon" in daemon.log and "warmd stop" in daemon.log
            assert client.session(zoo("Good")).call("run").output["n"] == 1
    finally:
        for daemon in daemons:
            daemon.process.terminate()
            daemon.process.communicate(timeout=20)


@pytest.mark.alone
def test_a_second_daemon_disturbs_nobody(tmp_path: Path) -> None:
    with serving(tmp_path / "run") as (first, client), undisturbed(first.address):
        assert "another daemon" in start_refused(Daemon(first.run_dir))
        with warmd.Client(first.address) as late:
            assert late.status().boot == client.status().boot


# What lies in the way


@pytest.mark.parametrize("name", ["warmd.sock", "door.sock"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_stays_and_is_named(tmp_path: Path, name: str, kind: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    path = run_dir / name
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "elsewhere").write_text("precious")
        path.symlink_to(tmp_path / "elsewhere")
    assert f"{path} is in the way" in start_refused(Daemon(run_dir))
    assert path.is_dir() if kind == "folder" else path.read_text() == "precious"


def test_what_a_dead_daemon_left_is_no_obstacle(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    for name in ("warmd.sock", "door.sock", "warmd.full"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(run_dir / name))
    with serving(run_dir) as (_, client):
        assert client.status().sessions == 0


@pytest.mark.parametrize("text", ["{pid}\n", "", "garbage\n", "-1\n", f"{10**20}\n", "\xff" * 5000])
def test_nobody_is_signalled_because_of_a_pid_file(tmp_path: Path, text: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (run_dir / "pid").write_bytes(text.format(pid=stranger.pid).encode("latin-1"))
        with serving(run_dir) as (daemon, client):
            assert (run_dir / "pid").read_text() == f"{daemon.process.pid}\n"
            assert client.status().pid == daemon.process.pid
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert stranger.returncode == 0


def test_a_path_that_is_too_long_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    run_dir = tmp_path / ("x" * 110)
    said = start_refused(Daemon(run_dir))
    assert "107" in said and "WARMD_RUN_DIR" in said
    assert list(tmp_path.iterdir()) == []


# Taken away under it


def test_without_its_socket_it_serves_who_is_connected_and_others_are_told(tmp_path: Path) -> None:
    with serving(tmp_path / "run") as (daemon, client), client.session(zoo("Good")) as session:
        Path(daemon.address).unlink()
        assert session.call("run").output["n"] == 1
        with warmd.Client(daemon.address) as late, within(NO_DAEMON_SECONDS):
            assert error_of(late.status).code == "DAEMON_UNAVAILABLE"
        assert "another daemon" in start_refused(Daemon(daemon.run_dir)), "the lock still says so"
        assert session.call("run").output["n"] == 2
        doctor = subprocess.run(
            [sys.executable, "-m", "warmd", "--host", daemon.address, "doctor"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "lock" in doctor.stdout
    with serving(tmp_path / "run") as (_, client):
        assert client.status().sessions == 0


def test_when_it_was_full_and_its_directory_goes_it_still_notices_who_leaves(tmp_path: Path) -> None:
    with serving(tmp_path / "run", "--max-connections=4") as (daemon, client):
        with warmd.Client(daemon.address) as other:
            assert other.status().clients == 2
            silent = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            for one in silent:
                one.connect(daemon.address)
            until(lambda: not Path(daemon.address).exists())
            shutil.rmtree(daemon.run_dir)
            for one in silent:
                one.close()
        until(lambda: client.status().clients == 1)


def test_without_its_whole_directory_it_goes_on_and_ends_in_order(tmp_path: Path) -> None:
    with serving(tmp_path / "run") as (daemon, client), client.session(zoo("Good")) as session:
        for path in sorted(daemon.run_dir.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        daemon.run_dir.rmdir()
        assert session.call("run").output["n"] == 1
        with pytest.raises(warmd.WarmdError) as caught:
            client.session(zoo("Good"))
        assert caught.value.ran == "no"
        assert session.call("run").output["n"] == 2
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0


def test_two_daemons_of_one_path_do_each_other_no_harm(tmp_path: Path) -> None:
    """Somebody cleans up, and the next client starts another daemon where the first one was."""
    with serving(tmp_path / "run") as (first, client), client.session(zoo("Forks")) as session:
        left = session.call("everything").output
        shutil.rmtree(first.run_dir)
        with serving(tmp_path / "run") as (second, other):
            assert other.status().pid == second.process.pid
            assert session.call("hold_fds").output, "the second has ended the first one's session"
            assert all(Path(f"/proc/{pid}").exists() for pid in left.values())
            first.signal(signal.SIGTERM)
            assert first.wait() == 0
            assert (second.run_dir / "pid").read_text() == f"{second.process.pid}\n"
            with warmd.Client(second.address) as late, late.session(zoo("Good")) as fresh:
                assert fresh.call("run").output["n"] == 1


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(path)]
    made = subprocess.run(options, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> None:
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_on_a_full_disk_the_service_goes_on_and_lines_are_counted(small_disk: Path) -> None:
    with serving(small_disk / "run") as (_, client), client.session(zoo("Junk")) as session:
        fill(small_disk)
        assert session.call("print", {"n": 2000}).output == 2000
        until(lambda: client.status().log_lines_dropped > 0, AT_ONCE_SECONDS)
        (small_disk / "filler").unlink()
        with client.session(zoo("Good")) as other:
            assert other.call("run").output["n"] == 1
        assert session.call("print", {"n": 1}).output == 1

def test_a_start_on_a_full_disk_serves_or_says_why(small_disk: Path) -> None:
    (small_disk / "run").mkdir(mode=0o700)
    fill(small_disk)
    began = time.monotonic()
    daemon = Daemon(small_disk / "run")
    with warmd.Client(daemon.address) as client:
        until(lambda: daemon.process.poll() is not None or answers(client))
        if daemon.process.poll() is None:
            assert client.run(app="counter", session="new", function="incr").output
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
        else:
            assert "No space left" in start_refused(daemon)
    assert time.monotonic() - began < 20


# Standard streams


@pytest.mark.parametrize(
    "closed", [some for n in (1, 2, 3) for some in itertools.combinations(range(3), n)], ids=str
)
def test_closed_standard_streams_are_no_obstacle(tmp_path: Path, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    with serving(tmp_path / "run", before_exec=close) as (_, client), client.session(zoo("Good")) as session:
        assert session.call("run").output["n"] == 1


def test_a_log_that_nobody_reads_does_not_stop_it(tmp_path: Path) -> None:
    """Its stderr is a pipe that is full, then one whose reader is gone."""
    with serving(tmp_path / "run", "--log-level=debug") as (daemon, client):
        assert daemon.process.stderr is not None
        fcntl.fcntl(daemon.process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        for _ in range(30):
            client.session(zoo("Good")).end()
        assert client.status().daemon_log_lines_dropped > 0
        daemon.process.stderr.close()
        client.session(zoo("Good")).end()
        assert client.status().sessions == 0
        daemon.signal(signal.SIGTERM)
        assert daemon.process.wait(20) == 0
