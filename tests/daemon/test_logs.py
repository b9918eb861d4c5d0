import os
import select
import time
from pathlib import Path

import pytest

from tests.daemon.logreader import A, B, Later, Reader, append, close, drive, serve
from warmd.daemon import logfile
from warmd.daemon.logfile import CHUNK_BYTES
from warmd.daemon.logs import SessionLogs


@pytest.fixture
def logs(tmp_path: Path):
    logs = SessionLogs(tmp_path / "logs", max_bytes=200_000, keep=3)
    yield logs
    logs.close()
    assert logs.errors == 0, logs.last_error


def test_a_follower_sees_old_lines_and_live_ones(logs):
    path = logs.open_session(A)
    append(path, b"one\n")
    reader = Reader(logs, A)
    assert reader.data == b"one\n"
    append(path, b"two\n")
    drive(logs, lambda: reader.data == b"one\ntwo\n")
    append(path, b"three\n")
    drive(logs, lambda: reader.data.endswith(b"three\n"))
    assert not reader.ended
    append(path, b"last\n")
    close(logs, A)
    assert reader.data.endswith(b"three\nlast\n")
    assert reader.ended


def test_without_follow_it_ends_at_what_is_there(logs):
    path = logs.open_session(A)
    append(path, b"one\ntwo\nthree\n")
    reader = Reader(logs, A, tail=2, follow=False)
    assert (reader.data, reader.ended) == (b"two\nthree\n", True)
    assert Reader(logs, A, tail=0, follow=False).data == b""
    assert Reader(logs, A, tail=99, follow=False).data == b"one\ntwo\nthree\n"
    append(path, b"half")
    assert Reader(logs, A, tail=2, follow=False).data == b"three\nhalf"


def test_the_last_lines_of_a_long_file(logs):
    path = logs.open_session(A)
    lines = [b"%d " % n + b"x" * 40 + b"\n" for n in range(4000)]
    append(path, b"".join(lines))
    assert Reader(logs, A, tail=3000, follow=False).data == b"".join(lines[-3000:])


@pytest.mark.parametrize("tail", [None, 5])
def test_an_empty_log_ends_at_once(logs, tail):
    logs.open_session(A)
    reader = Reader(logs, A, tail=tail, follow=False)
    assert (reader.data, reader.ended) == (b"", True)


def test_delivery_stops_without_credit(logs):
    path = logs.open_session(A)
    append(path, b"x" * (2 * CHUNK_BYTES + 10))
    reader = Reader(logs, A, credit=1)
    assert len(reader.data) == CHUNK_BYTES
    reader.add_credit(1)
    assert len(reader.data) == 2 * CHUNK_BYTES
    close(logs, A)
    assert not reader.ended
    reader.add_credit(1)
    assert (len(reader.data), reader.ended) == (2 * CHUNK_BYTES + 10, True)


def test_a_file_emptied_by_someone_else(logs):
    path = logs.open_session(A)
    append(path, b"old\n")
    reader = Reader(logs, A)
    os.truncate(path, 0)
    append(path, b"n\n")
    drive(logs, lambda: reader.data == b"old\nn\n")


def test_a_quiet_log_wakes_nobody_and_a_busy_one_not_per_line(logs):
    path = logs.open_session(A)
    wakes = 0
    begin = time.monotonic()
    with open(path, "ab", buffering=0) as file:
        while time.monotonic() < begin + 0.3:
            file.write(b"x\n")
            if select.select([logs.inotify_fd], [], [], 0)[0]:
                logs.readable()
                wakes += 1
    assert 1 <= wakes <= 15
    deadline = time.monotonic() + 5
    while select.select([logs.inotify_fd], [], [], 0.1)[0]:
        logs.readable()
        assert time.monotonic() < deadline
    append(path, b"again\n")
    assert select.select([logs.inotify_fd], [], [], 1)[0]


def test_many_sessions_one_inotify(logs):
    names = [f"sess_{n:032x}" for n in range(50)]
    paths = [logs.open_session(name) for name in names]
    readers = [Reader(logs, name) for name in names]
    for n, path in enumerate(paths):
        append(path, b"%d\n" % n)
    drive(logs, lambda: all(reader.data == b"%d\n" % n for n, reader in enumerate(readers)))
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_exists(fd)]
    assert links.count("anon_inode:inotify") == 1


def fd_exists(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_tail_gives_the_last_lines_clean(logs):
    path = logs.open_session(A)
    append(path, b"".join(b"line %d\n" % n for n in range(100)))
    assert logs.tail(A).splitlines() == [f"line {n}" for n in range(80, 100)]
    append(path, b"\x1b[31mred\x1b[0m\x00\n 10%\r 20%\r100%\r\n\xff\n")
    assert logs.tail(A).splitlines()[-3:] == ["red", "100%", "\ufffd"]
    append(path, b"y" * 9000 + b"\nend\n")
    assert logs.tail(A) == "end"
    close(logs, A)
    assert logs.tail(A) == "end"


def test_a_cut_meanwhile_takes_nothing_from_the_tail(logs, monkeypatch):
    path = logs.open_session(A)
    append(path, b"x" * 100_000 + b"\nlast words\n")
    kept = b"... (older lines dropped)\nlast words\n"
    read_at = logfile.read_at

    def cut_before_the_read(fd: int, at: int, count: int) -> bytes:
        monkeypatch.undo()
        Path(path).write_bytes(kept)
        return read_at(fd, at, count)

    monkeypatch.setattr(logfile, "read_at", cut_before_the_read)
    assert logs.tail(A).endswith("last words")


def test_the_tail_of_a_crash_begins_with_its_innermost_frames(logs):
    frames = [b'  File "app.py", line %d in f\n' % n for n in range(300)]
    trace = [b"Fatal Python error: Segmentation fault\n", b"\n", b"Current thread:\n", *frames]
    append(logs.open_session(A), b"".join([b"before %d\n" % n for n in range(500)] + trace))
    told = logs.tail(A)
    assert told.splitlines()[:6] == [f"before {n}" for n in range(495, 500)] + [trace[0].decode().rstrip()]
    assert "line 0 in f" in told and "line 299 in f" not in told
    assert len(told) <= 4096


def test_old_logs_are_pruned_and_live_ones_never(logs):
    live = logs.open_session(B)
    names = [f"sess_{n:032x}" for n in range(6)]
    for name in names:
        append(logs.open_session(name), b"hello\n")
        close(logs, name)
    left = sorted(os.listdir(logs.folder))
    assert left == sorted([os.path.basename(live), *(f"{name}.log" for name in names[-3:])])
    with pytest.raises(FileNotFoundError):
        Reader(logs, names[0])


def test_logs_of_an_earlier_daemon_are_readable_and_pruned(tmp_path):
    first = SessionLogs(tmp_path, 1000, keep=100)
    for n in range(4):
        name = f"sess_{n:032x}"
        append(first.open_session(name), b"%d\n" % n)
        os.utime(first.path(name), (1000 + n, 1000 + n))
    first.close()
    second = SessionLogs(tmp_path, 1000, keep=2)
    assert len(os.listdir(tmp_path)) == 2
    assert Reader(second, "sess_" + "0" * 31 + "3", follow=False).data == b"3\n"
    second.close()


def test_an_id_that_comes_again_starts_a_new_log(tmp_path):
    pool = "pool_" + "0" * 32
    first = SessionLogs(tmp_path, 100_000, keep=1)
    append(first.open_session(pool), b"old\n")
    first.close()
    logs = SessionLogs(tmp_path, 100_000, keep=1)
    append(logs.open_session(pool), b"new\n")
    for name in (A, B):
        logs.open_session(name)
        close(logs, name)
    assert logs.tail(pool) == "new"
    logs.close()
    assert logs.errors == 0


@pytest.mark.parametrize("name", ["../x", "sess_", "sess_" + "g" * 32, A + "/", "", A + "\n"])
def test_an_id_cannot_lead_out_of_the_folder(logs, name):
    for call in (logs.open_session, logs.tail, logs.path):
        with pytest.raises(ValueError, match="is not the id of a session"):
            call(name)


def test_a_failing_disk_costs_lines_only(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    logs = SessionLogs(blocked / "logs", 1000, 10)
    assert logs.open_session(A).endswith(f"{A}.log")
    assert logs.tail(A) == ""
    logs.readable()
    close(logs, A)
    logs.close()
    assert logs.errors >= 3


def test_descriptors_come_back(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    logs = SessionLogs(tmp_path, 1000, 10)
    for n in range(20):
        name = f"sess_{n:032x}"
        logs.open_session(name)
        reader = Reader(logs, name, credit=0 if n % 2 else 1)
        close(logs, name)
        reader.follower.close()
    logs.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_all_who_read_a_log_share_a_descriptor_also_after_its_session(logs):
    append(logs.open_session(A), b"one\n")
    before = len(os.listdir("/proc/self/fd"))
    live = [Reader(logs, A, credit=0) for _ in range(20)]
    close(logs, A)
    late = [Reader(logs, A, credit=0) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == before
    for reader in (*live, *late):
        reader.add_credit(1)
        assert (reader.data, reader.ended) == (b"one\n", True)
    again = [Reader(logs, A, credit=0) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == before
    for reader in again:
        reader.follower.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_who_reads_a_log_that_is_pruned_or_begun_anew_gets_it_to_its_end(tmp_path):
    pool = "pool_" + "0" * 32
    logs = SessionLogs(tmp_path, 100_000, keep=1)
    append(logs.open_session(pool), b"old\n")
    logs.close_session(pool)
    old = Reader(logs, pool, credit=0)
    append(logs.open_session(pool), b"new\n")
    for name in (pool, B):
        logs.close_session(name) if name == pool else logs.open_session(name)
    new = Reader(logs, pool, credit=0)
    close(logs, B)
    with pytest.raises(FileNotFoundError):
        Reader(logs, pool)
    for reader, text in ((old, b"old\n"), (new, b"new\n")):
        reader.add_credit(1)
        assert (reader.data, reader.ended) == (text, True)
    logs.close()


def test_readers_have_their_turns_a_chunk_each(logs):
    append(logs.open_session(A), b"x" * (3 * CHUNK_BYTES))
    order = []
    for name in "ab":
        follower = logs.follow(A, None, False, lambda _, name=name: order.append(name), lambda _: None)
        follower.add_credit(10)
    assert order == []
    while logs.serve(0):
        pass
    assert order == ["a", "b"] * 3 and not logs.serve()


def test_a_cut_that_fails_is_counted_and_not_tried_again_at_once(logs):
    logs.in_thread = later = Later()
    path = logs.open_session(A)
    reader = Reader(logs, A)
    append(path, b"x" * 250_000)
    drive(logs, lambda: later.jobs)
    (_, done) = later.jobs.pop()
    done(OSError("disk"))
    serve(logs)
    assert (logs.errors, logs.last_error, len(reader.data)) == (1, "disk", 250_000)
    append(path, b"y" * 100_000)
    drive(logs, lambda: len(reader.data) == 350_000)
    assert later.jobs == []
    append(path, b"z" * 200_000)
    drive(logs, lambda: later.jobs)
    later.work()
    logs.errors = 0
