from __future__ import annotations

import os
import signal
import time

import pytest

from warmd.daemon.worker.page import MAX_WITHDRAWN, PAGE_BYTES, ControlPage, create_stack_file


def test_both_sides_see_each_others_fields() -> None:
    daemon = ControlPage.create()
    worker = ControlPage.attach(os.dup(daemon.fd))
    try:
        assert (daemon.entered, daemon.cancel, daemon.interrupt) == (0, 0, 0)
        worker.enter(7)
        worker.add_lines_dropped(2)
        worker.add_lines_dropped(3)
        assert (daemon.entered, daemon.lines_dropped) == (7, 5)
        daemon.request_cancel(7)
        daemon.request_interrupt(2**63)
        assert worker.asked() == (7, 2**63) == (worker.cancel, worker.interrupt)
        daemon.withdraw(9)
        assert [worker.is_withdrawn(ordinal) for ordinal in (8, 9, 9 + MAX_WITHDRAWN)] == [False, True, False]
    finally:
        worker.close()
        daemon.close()


def test_the_size_is_sealed() -> None:
    page = ControlPage.create()
    try:
        for size in (0, PAGE_BYTES * 2):
            with pytest.raises(PermissionError):
                os.ftruncate(page.fd, size)
    finally:
        page.close()


@pytest.mark.parametrize("content", [b"", b"\0" * PAGE_BYTES, b"\0" * (PAGE_BYTES + 1)])
def test_another_memfd_is_refused(content: bytes) -> None:
    fd = os.memfd_create("other")
    try:
        os.write(fd, content)
        with pytest.raises(ValueError, match="control page"):
            ControlPage.attach(fd)
    finally:
        os.close(fd)


def test_the_stack_file_appends_after_a_truncation() -> None:
    fd = create_stack_file()
    try:
        os.write(fd, b"first")
        os.ftruncate(fd, 0)
        os.write(fd, b"second")
        assert os.pread(fd, 100, 0) == b"second"
    finally:
        os.close(fd)


def test_no_field_is_ever_seen_half_written() -> None:
    """The daemon reads `entered` at any moment: a zero there would say that a call never ran."""
    page = ControlPage.create()
    child = os.fork()
    if child == 0:
        while True:
            page.enter(255)
            page.enter(256)
    try:
        until = time.monotonic() + 10
        while page.entered == 0:
            assert time.monotonic() < until, "the child never wrote"
        assert {page.entered for _ in range(200_000)} <= {255, 256}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        page.close()
