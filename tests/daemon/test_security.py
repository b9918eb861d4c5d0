import os
import resource
import shutil
import socket
import stat
import subprocess
import sys

import pytest

from warmd.daemon.security import AlreadyRunning, RunDirectory, StartError, harden
from warmd.protocol import places


def test_a_fresh_directory_is_private_and_locked(tmp_path):
    path = tmp_path / "a" / "run"
    taken = RunDirectory.take(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "lock").stat().st_mode) == 0o600
    assert (path / "pid").read_text() == f"{os.getpid()}\n"
    with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}.*unix://{path}/warmd.sock.*warmd stop"):
        RunDirectory.take(path)
    taken.close()
    assert os.listdir(path) == ["lock"]
    RunDirectory.take(path).close()


def test_a_second_daemon_touches_nothing_of_the_first(tmp_path):
    taken = RunDirectory.take(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(places.socket_path(tmp_path)))
        listener.listen()
        with pytest.raises(AlreadyRunning):
            RunDirectory.take(tmp_path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(places.socket_path(tmp_path)))
    taken.close()


@pytest.mark.parametrize("remove", [False, True])
def test_a_directory_made_anew_by_another_is_left_alone(tmp_path, remove):
    path = tmp_path / "run"
    first = RunDirectory.take(path)
    shutil.rmtree(path)
    second = RunDirectory.take(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(places.socket_path(path)))
    there = sorted(os.listdir(path))
    first.close(remove)
    assert sorted(os.listdir(path)) == there == ["lock", "pid", "warmd.sock"]
    with pytest.raises(AlreadyRunning):
        RunDirectory.take(path)
    second.close(remove)


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import sys, os, signal; from pathlib import Path; from warmd.daemon.security import RunDirectory\n"
        "RunDirectory.take(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=30, check=False)
    assert done.returncode == -9
    assert (tmp_path / "pid").exists()
    taken = RunDirectory.take(tmp_path)
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
    taken.close()


def test_stale_sockets_go_and_other_files_stay(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(places.socket_path(tmp_path)))
    RunDirectory.take(tmp_path).close()
    assert not places.socket_path(tmp_path).exists()
    places.door_path(tmp_path).write_text("precious")
    with pytest.raises(StartError, match=r"door\.sock is in the way and is not a socket"):
        RunDirectory.take(tmp_path)
    assert places.door_path(tmp_path).read_text() == "precious"


@pytest.mark.parametrize("text", ["", "garbage \0", "99999999999999999999999", "1\n"])
def test_a_foreign_or_broken_pid_file_is_no_obstacle(tmp_path, text):
    places.pid_path(tmp_path).write_text(text)
    taken = RunDirectory.take(tmp_path)
    assert places.pid_path(tmp_path).read_text() == f"{os.getpid()}\n"
    taken.close()


def test_links_are_not_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StartError, match="is a file, or a symbolic link: choose another WARMD_RUN_DIR"):
        RunDirectory.take(tmp_path / "link")
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "real" / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StartError, match="lock"):
        RunDirectory.take(tmp_path / "real")
    (tmp_path / "real" / "lock").unlink()
    (tmp_path / "real" / "pid").symlink_to(tmp_path / "victim")
    RunDirectory.take(tmp_path / "real").close()
    assert (tmp_path / "victim").read_text() == "precious"


def test_somebody_elses_directory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StartError, match="belongs to uid"):
        RunDirectory.take(tmp_path)


def test_an_open_directory_is_closed_to_others(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    path.chmod(0o777)
    RunDirectory.take(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_created(tmp_path):
    path = tmp_path / ("x" * 120)
    with pytest.raises(StartError, match=r"107.*--run-dir"):
        RunDirectory.take(path)
    assert not path.exists()


def test_a_private_directory_goes_with_its_daemon_but_not_with_other_files(tmp_path):
    path = tmp_path / "run"
    taken = RunDirectory.take(path)
    (path / "logs").mkdir()
    (path / "logs" / "x.log").write_text("x")
    taken.close(remove=True)
    assert not path.exists()
    taken = RunDirectory.take(path)
    (path / "mine.txt").write_text("precious")
    taken.close(remove=True)
    assert os.listdir(path) == ["mine.txt"]


def test_closing_twice_is_harmless(tmp_path):
    taken = RunDirectory.take(tmp_path)
    taken.close()
    other = RunDirectory.take(tmp_path)
    taken.close()
    assert places.pid_path(tmp_path).exists()
    other.close()


def test_limits_of_the_process():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    old = os.umask(0o022)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
        harden()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert os.umask(0o022) == 0o077
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.umask(old)
