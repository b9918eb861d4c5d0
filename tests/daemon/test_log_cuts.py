"""Session logs are kept under their cap: what stays, what is lost, and who is told."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.daemon.logreader import A, Later, Reader, append, close, drive, serve
from warmd.daemon import logfile
from warmd.daemon.logfile import MARK
from warmd.daemon.logs import SessionLogs

BLOCK = 4096


@pytest.fixture
def logs(tmp_path: Path):
    logs = SessionLogs(tmp_path / "logs", max_bytes=200_000, keep=3)
    yield logs
    logs.close()
    assert logs.errors == 0, logs.last_error


@pytest.fixture(params=["whole blocks", "copied"])
def cut(request, monkeypatch, tmp_path):
    """How the file system lets the beginning of a file be taken away."""
    if request.param == "copied":
        monkeypatch.setattr(logfile, "_collapse", lambda _fd, _count: False)
        return request.param
    with open(tmp_path / "probe", "w+b") as probe:
        probe.write(bytes(2**20))
        probe.flush()
        if not logfile._collapse(probe.fileno(), 2**16):
            pytest.skip("this file system takes no blocks away from the beginning of a file")
    return request.param


def behind_mark(data: bytes) -> bytes:
    """What is kept; before it there is one line that says that there was more."""
    head, _, kept = data.partition(b"\n")
    assert head.lstrip(b".") == b" (older lines dropped)"
    return kept


@pytest.mark.usefixtures("cut")
def test_the_cap_keeps_the_newest_half_and_says_so(logs):
    path = logs.open_session(A)
    lines = [b"line %06d\n" % n for n in range(20_000)]
    append(path, b"".join(lines))
    drive(logs, lambda: os.path.getsize(path) <= 100_000 + BLOCK)
    data = Path(path).read_bytes()
    kept = behind_mark(data)
    assert kept.startswith(b"line ") and b"".join(lines).endswith(kept)
    assert len(data) > 90_000
    append(path, b"after\n")
    assert Path(path).read_bytes() == data + b"after\n"


@pytest.mark.usefixtures("cut")
def test_a_follower_survives_cuts_without_loss_or_repetition(logs):
    path = logs.open_session(A)
    reader = Reader(logs, A)
    wrote = []

    def write() -> None:
        with open(path, "ab", buffering=0) as file:
            for n in range(60):
                # Slower than the reader, so that a cut never takes what it has not seen.
                wrote.append(b"".join(b"%06d %s\n" % (n * 1000 + i, b"y" * 60) for i in range(100)))
                file.write(wrote[-1])
                seen.wait(5)
                seen.clear()

    seen = threading.Event()
    thread = threading.Thread(target=write)
    thread.start()
    drive(
        logs,
        lambda: (seen.set() if len(reader.data) == sum(map(len, wrote)) else None, not thread.is_alive())[1],
        20,
    )
    thread.join()
    close(logs, A)
    assert reader.data == b"".join(wrote)
    assert os.path.getsize(path) < 200_000 < len(reader.data)


@pytest.mark.usefixtures("cut")
def test_a_slow_follower_is_told_of_the_gap(logs):
    path = logs.open_session(A)
    append(path, b"first\n")
    reader = Reader(logs, A, credit=1)
    append(path, b"".join(b"line %06d\n" % n for n in range(20_000)))
    drive(logs, lambda: os.path.getsize(path) < 150_000)
    reader.add_credit(100)
    assert reader.data.startswith(b"first\n")
    assert behind_mark(reader.data.removeprefix(b"first\n")).startswith(b"line 0")
    assert reader.data.endswith(b"line 019999\n")


def test_concurrent_writers_and_cuts_break_no_line_and_lose_none_where_blocks_can_go(logs, cut):
    path = logs.open_session(A)
    stop = threading.Event()

    def write(number: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        count = 0
        while not stop.is_set() and count < 20_000:
            os.write(fd, b"%d %06d %s\n" % (number, count, b"z" * 30))
            count += 1
        os.close(fd)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        drive(logs, lambda: not any(thread.is_alive() for thread in threads), 20)
    finally:
        stop.set()
    close(logs, A)
    data = Path(path).read_bytes()
    assert len(data) <= 200_000
    kept = behind_mark(data).splitlines()
    assert {len(line) for line in kept} == {39}
    if cut == "whole blocks":
        for number in range(3):
            mine = [int(line.split()[1]) for line in kept if line.startswith(b"%d " % number)]
            assert mine == list(range(20_000 - len(mine), 20_000))


def test_the_rest_of_an_endless_line_is_kept_behind_the_mark(logs):
    path = logs.open_session(A)
    append(path, b"x" * 500_000)
    drive(logs, lambda: os.path.getsize(path) <= 100_000 + BLOCK)
    data = Path(path).read_bytes()
    assert data.startswith(MARK) and set(data.removeprefix(MARK)) == {ord("x")}


def test_nothing_is_read_while_a_cut_is_under_way(logs):
    logs.in_thread = later = Later()
    path = logs.open_session(A)
    append(path, b"first\n")
    reader = Reader(logs, A)
    lines = [b"line %06d\n" % n for n in range(20_000)]
    append(path, b"".join(lines))
    drive(logs, lambda: later.jobs)
    new = Reader(logs, A, tail=1, follow=False)
    append(path, b"more\n")
    logs.readable()
    serve(logs)
    assert (reader.data, new.data, new.ended, len(later.jobs)) == (b"first\n", b"", False, 1)
    later.work()
    serve(logs)
    assert behind_mark(reader.data.removeprefix(b"first\n")).startswith(b"line ")
    assert reader.data.endswith(b"line 019999\nmore\n")
    assert (new.data, new.ended) == (lines[-1], True)


def test_a_session_that_ends_during_a_cut(logs):
    logs.in_thread = later = Later()
    path = logs.open_session(A)
    reader = Reader(logs, A)
    append(path, b"".join(b"line %06d\n" % n for n in range(20_000)))
    drive(logs, lambda: later.jobs)
    close(logs, A)
    assert (reader.data, reader.ended) == (b"", False)
    later.work()
    serve(logs)
    assert reader.data.endswith(b"line 019999\n")
    assert reader.ended
