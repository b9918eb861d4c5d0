"""The leak check of conftest.py notices what it is for, and lets go of what is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.leaks import Held, left_behind


def test_nothing_is_reported_where_nothing_was_left() -> None:
    before = Held.now()
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    threading.Thread(target=lambda: None).start()
    assert left_behind(before) == []


def test_a_descriptor_is_noticed() -> None:
    before = Held.now()
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        assert left_behind(before) == [f"descriptor {descriptor}: /dev/null"]
    finally:
        os.close(descriptor)


def test_a_child_that_nobody_waited_for_is_noticed() -> None:
    before = Held.now()
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    try:
        assert left_behind(before) == [f"child {child.pid}: (a zombie: nobody waited for it)"]
    finally:
        child.wait()
    assert left_behind(before) == []


def test_a_thread_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr("tests.leaks.PATIENCE_SECONDS", 0.01)
    before, done = Held.now(), threading.Event()
    thread = threading.Thread(target=done.wait, args=(30,), name="stays")
    thread.start()
    try:
        assert left_behind(before) == ["thread stays"]
    finally:
        done.set()
        thread.join()


def test_a_file_is_noticed() -> None:
    before = Held.now()
    folder = tempfile.mkdtemp(prefix="warmd-")
    try:
        assert left_behind(before) == [f"file {folder}"]
    finally:
        Path(folder).rmdir()


def test_a_process_that_has_escaped_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr("tests.leaks.PATIENCE_SECONDS", 0.01)
    before = Held.now()
    script = "sleep 60 > /dev/null 2>&1 & echo $!"
    done = subprocess.run(["/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    pid = int(done.stdout)
    try:
        assert left_behind(before) == [f"escaped process {pid}: sleep 60"]
    finally:
        os.kill(pid, signal.SIGKILL)


def test_no_test_can_reach_a_daemon_of_the_user() -> None:
    assert os.environ["XDG_RUNTIME_DIR"].startswith(tempfile.gettempdir())
    assert "WARMD_HOST" not in os.environ
    assert os.environ["WARMD_CHECK"] == "1"
