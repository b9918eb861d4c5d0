"""The daemon's own log: its cap, and what a disk that is full costs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd
from warmd.daemon.logfile import MARK
from warmd.daemon.ownlog import STDERR, OwnLog
from warmd.protocol import places

MOST = 64 * 1024


@pytest.fixture
def stderr_is() -> Iterator[object]:
    """A function that turns this process's descriptor 2 to a path, until the end of the test."""
    kept = os.dup(STDERR)

    def turn(path: Path | str, flags: int = os.O_APPEND) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
        os.dup2(fd, STDERR)
        os.close(fd)

    yield turn
    os.dup2(kept, STDERR)
    os.close(kept)


def say(log: OwnLog, count: int, text: str = "x" * 100) -> None:
    for number in range(count):
        log.emit(logging.LogRecord("warmd", logging.INFO, "", 0, f"{number} {text}", (), None))
        if log._cutting is not None:
            log._cutting.join()


def test_it_is_cut_to_its_newest_half(stderr_is, tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    stderr_is(path)
    log = OwnLog(path, MOST)
    say(log, 5000)
    log.close()
    text = path.read_bytes()
    assert len(text) <= MOST + 200
    assert text.lstrip(b".").startswith(MARK.lstrip(b"."))
    assert b" info 4999 xxx" in text.splitlines()[-1]
    assert log.lines_dropped == 0


def test_a_file_that_somebody_chose_for_stderr_is_left_alone(stderr_is, tmp_path: Path) -> None:
    chosen, ours = tmp_path / "chosen", tmp_path / "daemon.log"
    older = "older\n" * MOST
    ours.write_text(older)
    stderr_is(chosen)
    log = OwnLog(ours, MOST)
    say(log, 1000)
    log.close()
    assert chosen.stat().st_size > MOST
    assert ours.read_text() == older


def test_a_full_disk_costs_lines_and_counts_them(stderr_is, tmp_path: Path) -> None:
    stderr_is("/dev/full")
    log = OwnLog(tmp_path / "daemon.log", MOST)
    say(log, 3)
    stderr_is(tmp_path / "daemon.log")
    say(log, 1)
    log.close()
    assert log.lines_dropped == 3


def test_a_cut_that_fails_is_not_tried_at_each_line(
    stderr_is, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fail(*_given: object) -> int:
        tries.append(1)
        raise OSError("no")

    monkeypatch.setattr("warmd.daemon.ownlog.halve", fail)
    path = tmp_path / "daemon.log"
    stderr_is(path)
    log = OwnLog(path, MOST)
    say(log, 600)
    log.close()
    assert len(tries) == 1 and log.lines_dropped == 0


def test_the_daemon_of_a_client_keeps_its_log_short() -> None:
    with warmd.local(daemon_log_max_bytes=MOST) as client:
        path = places.daemon_log_path(Path(str(client.status()["run_dir"])))
        with path.open("a") as log:
            log.write("old\n" * (MOST // 2))
        with client.session("counter"):
            pass
        until = time.monotonic() + 10
        while path.stat().st_size > MOST and time.monotonic() < until:
            client.status()  # the cut is done beside the loop
        assert path.stat().st_size <= MOST
        assert path.read_bytes().lstrip(b".").startswith(MARK.lstrip(b"."))
        assert client.status()["daemon_log_lines_dropped"] == 0
