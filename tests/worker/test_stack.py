"""Looking at a stack costs a call nothing, wherever it is."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from tests.worker.daemon import FakeDaemon
from warmd.daemon.worker import stack
from warmd.daemon.worker.page import STACK_SIGNAL, create_stack_file
from warmd.protocol.values import unpack
from warmd.protocol.work import Ready, Returned

APP = """
import warmd

class Called:
    def __call__(self, number):
        return number

class App:
    def from_c(self, until):
        import os
        warmd.context.progress("in")
        called = Called()
        while not os.path.exists(until):
            for _ in map(lambda number: called(number), range(1000)):
                pass
        return "alive"
"""
LOOKS = 1000


def test_calls_from_c_code_into_python_outlive_thousands_of_looks(daemon: FakeDaemon, tmp_path: Path) -> None:
    """faulthandler crashes in one of 160 such looks, with CPython 3.11."""
    (tmp_path / "called.py").write_text(APP)
    assert isinstance(daemon.start("called:App", paths=(str(tmp_path),)), Ready)
    over = tmp_path / "over"
    daemon.entered("from_c", {"until": str(over)})
    pidfd = os.pidfd_open(daemon.pid)
    for _ in range(LOOKS):
        size = os.fstat(daemon.stack_fd).st_size
        signal.pidfd_send_signal(pidfd, STACK_SIGNAL)
        begun = time.monotonic()
        while os.fstat(daemon.stack_fd).st_size == size and time.monotonic() - begun < 0.002:
            continue
    os.close(pidfd)
    over.touch()
    reply = daemon.reply()
    assert isinstance(reply, Returned) and unpack(reply.value) == "alive"
    assert "in from_c" in os.pread(daemon.stack_fd, 4096, 0).decode()


def test_frames_are_told_as_faulthandler_does() -> None:
    first, *others = stack.text_of(sys._getframe()).splitlines()
    assert first.startswith(f'  File "{__file__}", line ')
    assert first.endswith(f"in {sys._getframe().f_code.co_name}")
    assert len(others) < stack.MAX_FRAMES


def test_of_a_deep_recursion_the_innermost_frames_are_told() -> None:
    def deep(levels: int) -> str:
        return deep(levels - 1) if levels else stack.text_of(sys._getframe())

    assert stack.text_of(None) == ""
    assert deep(150).count(" in deep\n") == stack.MAX_FRAMES


def test_a_descriptor_that_the_app_has_closed_does_no_harm() -> None:
    fd = create_stack_file()
    writer = stack.Writer(fd)
    writer.write(lambda: "first\n")
    writer.write(lambda: "second\n")
    assert os.pread(fd, 100, 0) == b"second\n"
    os.close(fd)
    writer.write(lambda: "third\n")
