"""Lent memory: who may write to it, when it is filled again, and when it is let go."""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from warmd.protocol import mappings, pagemap, segments
from warmd.protocol.described import Described, copy_bytes
from warmd.protocol.mappings import Borrowed, Mappings
from warmd.protocol.messages import Lent
from warmd.protocol.parcels import Leaves
from warmd.protocol.segments import KEPT_SECONDS, MOST_SEGMENTS, Pool

MB = 1 << 20


def leaves_of(*data: bytes) -> Leaves:
    leaves = Leaves()
    for one in data:
        leaves.add(Described(0, b"", len(one), partial(copy_bytes, one)))
    return leaves


def is_free(pool: Pool, size: int) -> bool:
    """Whether a segment that was filled before is free for so much."""
    return pool._free(size) is not None


def lend(pool: Pool, data: bytes) -> tuple[Lent, int] | None:
    found = pool.lend(leaves_of(data))
    pool.settled()
    return found


def lent(pool: Pool, data: bytes) -> tuple[Lent, int]:
    found = lend(pool, data)
    assert found is not None
    return found


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(64 * MB)
    yield pool
    pool.close()


class Receiver:
    """What a receiver has mapped, and what it has handed back."""

    def __init__(self) -> None:
        self.handed_back: list[int] = []
        self.left: list[int] = []
        self.mappings = Mappings(self._let_go)

    def _let_go(self, number: int, left: bool) -> None:
        (self.left if left else self.handed_back).append(number)

    def take(self, found: tuple[Lent, int] | None) -> Borrowed:
        assert found is not None
        lent, fd = found
        return Borrowed(self.mappings, lent, os.dup(fd))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.mappings.close()


def test_nobody_but_the_owner_writes_and_nobody_shrinks_it(pool: Pool) -> None:
    found = lend(pool, b"a" * MB)
    assert found is not None
    _, fd = found
    with pytest.raises(PermissionError):
        mmap.mmap(fd, MB)
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    for size in (0, 16 * MB):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & segments.SEALS == segments.SEALS
    assert not os.get_inheritable(fd)


def test_what_was_handed_back_is_filled_again(pool: Pool) -> None:
    first, _ = lent(pool, b"a" * MB)
    second, _ = lent(pool, b"b" * MB)
    assert first.number != second.number
    pool.handed_back([first.number, 99])
    third, fd = lent(pool, b"c" * (MB // 2))
    assert third == Lent(first.number, MB // 2)
    assert os.pread(fd, 1, 0) == b"c"
    assert os.pread(fd, 1, MB // 2) == b"a"


def test_what_was_left_is_never_filled_again(pool: Pool) -> None:
    first, fd = lent(pool, b"a" * MB)
    kept = os.dup(fd)
    pool.handed_back([], [first.number, 99])
    assert not pool._segments
    second, _ = lent(pool, b"b" * MB)
    assert second.number != first.number
    assert os.pread(kept, 1, 0) == b"a"
    os.close(kept)
    pool.handed_back([second.number])
    pool.handed_back([], [second.number])
    assert is_free(pool, MB), "it was not lent"


def test_more_than_the_limit_is_not_lent_and_free_memory_makes_room(pool: Pool) -> None:
    lent = [lend(pool, b"a" * (20 * MB)) for _ in range(3)]
    assert None not in lent
    assert lend(pool, b"b" * (20 * MB)) is None
    assert lend(pool, b"b" * (4 * MB)) is not None
    pool.handed_back([lent[0][0].number])  # type: ignore[index]
    assert is_free(pool, 20 * MB)
    assert not is_free(pool, 40 * MB)
    assert lend(pool, b"c" * (21 * MB)) is None
    pool.handed_back([lent[1][0].number])  # type: ignore[index]
    assert lend(pool, b"c" * (33 * MB)) is not None
    assert not is_free(pool, 20 * MB)


def test_there_are_so_many_segments_and_no_more(pool: Pool) -> None:
    assert all(lend(pool, b"a") for _ in range(MOST_SEGMENTS))
    assert lend(pool, b"a") is None


def test_without_descriptors_nothing_is_lent_and_nothing_lost(pool: Pool) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    for free in (0, 1):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + free, limits[1]))
        try:
            assert lend(pool, b"a") is None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(os.listdir("/proc/self/fd")) == before
    assert lend(pool, b"a") is not None


def test_a_copy_that_fails_lends_nothing(pool: Pool) -> None:
    def fail(_room: memoryview) -> None:
        raise RuntimeError("its data are gone")

    broken = Leaves()
    broken.add(Described(0, b"", MB, fail))
    with pytest.raises(RuntimeError):
        pool.lend(broken)
    assert is_free(pool, MB)


def test_what_is_not_needed_for_a_while_is_let_go(pool: Pool) -> None:
    kept, _ = lent(pool, b"a")
    free, fd = lent(pool, b"b")
    assert pool.trim(time.monotonic()) is None
    pool.handed_back([free.number])
    due = pool.trim(time.monotonic())
    assert due is not None
    assert due > time.monotonic() + KEPT_SECONDS - 5
    assert pool.trim(due - 1) == due
    assert pool.trim(due) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    pool.handed_back([kept.number])
    assert is_free(pool, 1)


def test_a_forked_child_keeps_none_of_it(pool: Pool) -> None:
    _, fd = lent(pool, b"a" * MB)
    child = os.fork()
    if not child:
        left = subprocess.run(["ls", "-l", f"/proc/{os.getpid()}/fd"], capture_output=True, text=True).stdout
        os._exit(int("warmd-lent" in left + Path("/proc/self/maps").read_text()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.fstat(fd)


def test_a_view_can_be_written_to_and_nobody_sees_it(pool: Pool, receiver: Receiver) -> None:
    found = lend(pool, b"a" * MB)
    borrowed = receiver.take(found)
    first, second = borrowed.view(), borrowed.view()
    first[:3] = b"xyz"
    assert second[:3] == b"aaa"
    assert found is not None
    assert os.pread(found[1], 3, 0) == b"aaa"
    assert len(borrowed) == len(first) == MB


def test_it_is_handed_back_when_the_last_view_is_gone(pool: Pool, receiver: Receiver) -> None:
    borrowed = receiver.take(lend(pool, b"a" * MB))
    view = borrowed.view()
    part = view[10:20]
    borrowed.close()
    del view
    assert receiver.handed_back == []
    assert part == b"a" * 10
    del part
    assert receiver.handed_back == [1]


def test_it_is_handed_back_when_it_was_never_looked_at(pool: Pool, receiver: Receiver) -> None:
    before = len(os.listdir("/proc/self/fd"))
    found = lend(pool, b"a")
    borrowed = receiver.take(found)
    del borrowed
    assert receiver.handed_back == [1]
    assert len(os.listdir("/proc/self/fd")) == before + 2  # the pool's own


def test_a_mapping_is_kept_and_shows_what_the_owner_writes_next(pool: Pool, receiver: Receiver) -> None:
    for round_ in range(4):
        data = bytes([round_]) * (MB + MB // 2 + round_)
        borrowed = receiver.take(lend(pool, data))
        view = borrowed.view()
        assert view == data
        view[5 * mmap.PAGESIZE] = 255
        view[-1] = 254
        del view, borrowed
        assert len(receiver.mappings._kept) == 1
        pool.handed_back(receiver.handed_back)
    assert receiver.handed_back == [1] * 4


def test_without_a_word_of_the_kernel_all_pages_are_taken_for_written(
    pool: Pool, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagemap, "PATH", "/nonexistent")
    test_a_mapping_is_kept_and_shows_what_the_owner_writes_next(pool, receiver)


@pytest.mark.parametrize("kernel", ["of today", "before 6.7"])
def test_only_pages_that_were_written_to_are_thrown_away(
    pool: Pool, receiver: Receiver, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "before 6.7":
        monkeypatch.setattr(pagemap, "_SCAN", 0)
    borrowed = receiver.take(lend(pool, b"a" * MB))
    view = borrowed.view()
    assert bytes(view[:10]) == b"a" * 10
    del view
    (mapping,) = receiver.mappings._kept.values()
    assert not pagemap.was_written(mapping.memory, MB)
    view = borrowed.view()
    view[MB - 1] = 0
    assert pagemap.was_written(mapping.memory, MB)
    assert not pagemap.was_written(mapping.memory, MB - mmap.PAGESIZE)
    del view


def test_mappings_that_are_not_needed_are_let_go(pool: Pool, receiver: Receiver) -> None:
    borrowed = receiver.take(lend(pool, b"a" * MB))
    view = borrowed.view()
    assert receiver.mappings.trim(time.monotonic()) is None
    del view
    due = receiver.mappings.trim(time.monotonic())
    assert due is not None
    assert receiver.mappings.trim(due) is None
    assert receiver.mappings._kept == {}


def test_so_many_mappings_are_kept_and_no_more(pool: Pool, receiver: Receiver) -> None:
    views = [receiver.take(lent(pool, b"a")).view() for _ in range(mappings.MOST_KEPT + 3)]
    del views
    assert len(receiver.mappings._kept) == mappings.MOST_KEPT
    assert sorted(receiver.handed_back) == list(range(1, mappings.MOST_KEPT + 4))


def test_what_a_fork_may_still_read_is_only_left(pool: Pool, receiver: Receiver) -> None:
    before = receiver.take(lend(pool, b"a" * MB))
    view = before.view()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    after = receiver.take(lend(pool, b"b"))
    del before, view, after
    assert (receiver.left, receiver.handed_back) == ([1], [2])


def test_of_what_is_closed_nothing_is_kept(pool: Pool, receiver: Receiver) -> None:
    view = receiver.take(lent(pool, b"a" * MB)).view()
    receiver.mappings.close()
    assert view == b"a" * MB
    del view
    assert receiver.mappings._kept == {}
    assert receiver.handed_back == [1]


def test_what_is_handed_back_while_memory_is_filled_does_not_disturb_that(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finalizers run in the midst of everything."""
    monkeypatch.setattr(segments, "KEPT_SECONDS", 0.0)
    first, _ = lent(pool, b"a" * MB)

    def meanwhile(room: memoryview) -> None:
        pool.handed_back([first.number])
        assert lend(pool, b"b" * len(room)) is not None
        room[:] = b"c" * len(room)

    leaves = Leaves()
    leaves.add(Described(0, b"", MB, meanwhile))
    found = pool.lend(leaves)
    assert found is not None
    assert os.pread(found[1], MB, 0) == b"c" * MB


def test_memory_that_could_not_be_filled_is_free(pool: Pool) -> None:
    leaves = Leaves()
    leaves.add(Described(0, b"", MB, lambda room: room.release()))
    leaves.add(Described(0, b"", MB, partial(copy_bytes, b"too little")))
    with pytest.raises(ValueError, match="different"):
        pool.lend(leaves)
    assert is_free(pool, 2 * MB)


def test_what_no_message_came_to_name_is_let_go(pool: Pool) -> None:
    """An interruption between the lending and the message leaves nobody who would hand it back."""
    interrupted = pool.lend(leaves_of(b"a" * MB))
    assert interrupted is not None
    (number, _), _ = interrupted
    after, _ = lent(pool, b"b" * MB)
    assert after.number != number
    assert [segment.number for segment in pool._segments.values()] == [after.number]


def test_a_view_that_an_exception_keeps_does_not_keep_a_segment_from_being_closed(pool: Pool) -> None:
    kept: list[memoryview] = []

    def interrupted(room: memoryview) -> None:
        kept.append(room)
        raise KeyboardInterrupt

    leaves = Leaves()
    leaves.add(Described(0, b"", MB, interrupted))
    with pytest.raises(KeyboardInterrupt):
        pool.lend(leaves)
    before = len(os.listdir("/proc/self/fd"))
    pool.close()
    assert len(os.listdir("/proc/self/fd")) < before
    assert kept[0][:1] == b"\0"
