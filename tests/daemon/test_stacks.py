"""Where a worker hangs: the text, and how it is had from Python, from C code and from the dead."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tests.daemon.turning import turn_until
from warmd.daemon.fleet import Fleet
from warmd.daemon.loop import Loop
from warmd.daemon.stacks import StackCapture, readable
from warmd.daemon.worker.page import STACK_SIGNAL, create_stack_file
from warmd.protocol import work
from warmd.protocol.work import Ordinal, WorkerId

DUMP = """Current thread 0x00007f0000000000 (most recent call first):
  File "/w/daemon/worker/process.py", line 7 in on_signal
  File "/home/me/app (1)/app.py", line 12 in fetch
  File "/usr/lib/python3.11/socket.py", line 706 in readinto
  File "/home/me/app (1)/app.py", line 30 in run
  File "/site-packages/warmd/daemon/worker/invoke.py", line 90 in _run
  File "/site-packages/warmd/daemon/worker/main.py", line 40 in start_worker
  File "/site-packages/loky/backend/popen_loky_posix.py", line 180 in <module>
  File "<frozen runpy>", line 88 in _run_code
"""
CHILD = """
import faulthandler, sys, time
faulthandler.register(int(sys.argv[1]), file=int(sys.argv[2]), all_threads=False, chain=False)
def hang():
    print("in", flush=True)
    {body}
hang()
"""


@contextmanager
def hanging(body: str, stack_fd: int) -> Iterator[subprocess.Popen[bytes]]:


    command = [sys.executable, "-c", CHILD.format(body=body), str(STACK_SIGNAL), str(stack_fd)]
    with subprocess.Popen(command, pass_fds=(stack_fd,), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def captured(child: subprocess.Popen[bytes], stack_fd: int) -> tuple[str, float]:
    loop, texts, start = Loop(), [], time.monotonic()
    pidfd = os.pidfd_open(child.pid)
    StackCapture(loop, pidfd, stack_fd, texts.append)
    turn_until(loop, lambda: texts)
    seconds = time.monotonic() - start
    loop.close()
    os.close(pidfd)
    return texts[0], seconds


@pytest.fixture
def stack_fd() -> Iterator[int]:
    fd = create_stack_file()
    yield fd
    os.close(fd)


def test_the_text_names_the_app_and_leaves_out_the_runtime() -> None:
    assert readable(DUMP).splitlines() == [
        "/home/me/app (1)/app.py:12 in fetch",
        "/usr/lib/python3.11/socket.py:706 in readinto",
        "/home/me/app (1)/app.py:30 in run",
    ]


@pytest.mark.parametrize("text", ["", "no stack", "Current thread 0x1 (first):\n  <no frame>\n"])
def test_a_text_without_frames_is_empty(text: str) -> None:
    assert readable(text) == ""


@pytest.mark.parametrize("body", ["time.sleep(60)", "sum(range(10**12))", "while True: pass"])
def test_a_hang_is_named_also_in_c_code_that_holds_the_interpreter(body: str, stack_fd: int) -> None:
    with hanging(body, stack_fd) as child:
        text, _ = captured(child, stack_fd)
    assert re.match(r"<string>:[56] in hang\n<string>:7 in <module>$", text)


def test_each_capture_begins_afresh(stack_fd: int) -> None:
    with hanging("time.sleep(60)", stack_fd) as child:
        texts = [captured(child, stack_fd)[0] for _ in range(3)]
    assert [len(text.splitlines()) for text in texts] == [2, 2, 2]


def test_a_stopped_or_dead_process_gives_nothing_and_costs_little_time(stack_fd: int) -> None:
    with hanging("time.sleep(60)", stack_fd) as child:
        child.send_signal(signal.SIGSTOP)
        text, seconds = captured(child, stack_fd)
        assert (text, seconds < 1) == ("", True)
        child.kill()
        text, seconds = captured(child, stack_fd)
        assert (text, seconds < 1) == ("", True)


def test_a_cancelled_capture_stays_silent(stack_fd: int) -> None:
    loop, texts = Loop(), []
    with hanging("time.sleep(60)", stack_fd) as child:
        pidfd = os.pidfd_open(child.pid)
        StackCapture(loop, pidfd, stack_fd, texts.append).cancel()
        over: list[bool] = []
        loop.call_in(0.2, lambda: over.append(True))
        turn_until(loop, lambda: over)
        os.close(pidfd)
    loop.close()
    assert texts == []


def test_what_an_app_says_meanwhile_does_not_cut_the_look_short():
    """Only the end of the call does: then there is nothing more to see."""
    looks, said = [], []
    fleet = Fleet.__new__(Fleet)
    capture = SimpleNamespace(finish=lambda: looks.append("finished"))
    worker = SimpleNamespace(capture=capture, look=None)
    fleet._workers, fleet._submit = {WorkerId(1): worker}, said.append
    fleet._said(WorkerId(1), work.Progressed(Ordinal(1), b"\xc0"))
    fleet._said(WorkerId(1), work.Yielded(Ordinal(1), 0, b"\xc0"))
    assert not looks
    fleet._said(WorkerId(1), work.Interrupted(Ordinal(1), 0.0))
    assert looks == ["finished"] and len(said) == 3
