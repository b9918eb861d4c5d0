"""An app's own environment: made once, whole or not at all, by whichever tool there is."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.faults.watch import until
from tests.wheels import make_wheel
from warmd.daemon.worker import environment
from warmd.daemon.worker.environment import EnvironmentFailed, folder_of, interpreter


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path, "blue", "COLOUR = 'blue'\n")


def colour(python):
    command = [python, "-c", "import blue, sys; print(blue.COLOUR, sys.prefix)"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_it_has_what_it_requires_and_is_made_once(wheel, capfd, monkeypatch, tool):
    if tool == "pip":
        monkeypatch.setattr(environment, "_uv", lambda: None)
    python = interpreter(None, f"{wheel}\n")
    assert colour(python) == ["blue", str(Path(python).parents[1])]
    said = capfd.readouterr().err
    assert "making the app's environment in" in said
    assert "blue" in said
    made = Path(python).stat().st_mtime_ns
    assert interpreter(None, f"{wheel}\n") == python
    assert Path(python).stat().st_mtime_ns == made
    assert capfd.readouterr().err == ""


def test_others_wait_for_the_one_that_makes_it(wheel, monkeypatch):
    makers, begun, go_on = [], threading.Event(), threading.Event()
    make = environment._make

    def slowly(*what):
        makers.append(what)
        begun.set()
        assert go_on.wait(20)
        make(*what)

    monkeypatch.setattr(environment, "_make", slowly)
    waiting = threading.Event()
    monkeypatch.setattr(environment, "_say", lambda text: "waiting" in text and waiting.set())
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(interpreter(None, str(wheel)))) for _ in range(2)]
    threads[0].start()
    assert begun.wait(20)
    threads[1].start()
    assert waiting.wait(20)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(makers) == 1
    assert len(found) == 2
    assert found[0] == found[1]


def test_half_of_one_is_made_anew(wheel):
    folder = folder_of(sys.executable, str(wheel))
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("half")
    assert colour(interpreter(None, str(wheel)))[0] == "blue"


def test_what_cannot_be_installed_says_so_and_is_tried_again(tmp_path, capfd):
    missing = tmp_path / "blue-1.0-py3-none-any.whl"
    with pytest.raises(EnvironmentFailed, match=r"`\w+ .*` ended with code \d+: .*(?s:.*)blue"):
        interpreter(None, str(missing))
    assert "blue" in capfd.readouterr().err
    make_wheel(tmp_path, "blue", "COLOUR = 'late'\n")
    assert colour(interpreter(None, str(missing)))[0] == "late"


def test_another_interpreter_or_list_is_another_environment(tmp_path):
    other = tmp_path / "python"
    other.write_bytes(b"another")
    folders = {folder_of(sys.executable, "a"), folder_of(sys.executable, "b"), folder_of(str(other), "a")}
    assert len(folders) == 3


def test_an_interpreter_that_is_not_there():
    with pytest.raises(EnvironmentFailed, match="No such file or directory: /nowhere/python"):
        interpreter("/nowhere/python", "numpy")


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFailed, match="Not a directory"):
        interpreter(None, "numpy")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert str(folder_of(sys.executable, "a")).startswith(os.path.expanduser("~/.cache/warmd/"))


def test_one_whose_interpreter_is_gone_is_made_anew(wheel):
    python = Path(interpreter(None, str(wheel)))
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert colour(interpreter(None, str(wheel)))[0] == "blue"


def test_a_whole_one_is_not_waited_for(wheel):
    """Something that pip has started may live on and hold the lock."""
    interpreter(None, str(wheel))
    with open(folder_of(sys.executable, str(wheel)).with_suffix(".lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert colour(interpreter(None, str(wheel)))[0] == "blue"


def test_tools_that_outlive_who_has_started_them_keep_others_out(tmp_path):
    """A daemon that is killed takes its workers along, and not what they have started."""
    tool, pids = tmp_path / "uv", tmp_path / "pids"
    tool.write_text(f"#!/bin/sh\necho $$ $PPID > {pids}\nexec sleep 60\n")
    tool.chmod(0o755)
    code = "import sys; from warmd.daemon.worker import environment\n"
    code += "environment._uv = lambda: sys.argv[1]; environment.interpreter(None, 'numpy')"
    with subprocess.Popen([sys.executable, "-c", code, str(tool)], stderr=subprocess.DEVNULL) as maker:
        until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        maker.kill()
    survivor = int(pids.read_text().split()[0])
    with open(folder_of(sys.executable, "numpy").with_suffix(".lock")) as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(survivor, signal.SIGKILL)
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_a_full_disk_costs_lines_only(wheel, monkeypatch):
    def full(_fd, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(environment.os, "write", full)
    assert interpreter(None, str(wheel)).endswith("/bin/python")
