"""Counts the system calls of threads as `strace -c` does, also where there is no strace.

By ptrace(2): the kernel stops a thread where a system call begins and where it ends, tells the
tracer, and waits until that lets the thread go on.  Any process may so trace those that it has
started, and theirs, unless a container forbids it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

ATTACH_SECONDS = 10.0
_SYSCALL, _DETACH, _SEIZE, _INTERRUPT = 24, 17, 0x4206, 0x4207  # requests
_MARK_SYSCALL_STOPS = 1
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_EVENT_STOP = 128 << 8 | signal.SIGTRAP
_WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


class Tracer:
    """Traces threads, by their ids, in its `with` block; in the main thread only.

    They go on only while `serve` runs.  Raises PermissionError where tracing is forbidden.
    """

    def __init__(self, threads: Iterable[int]) -> None:
        self._stops = dict.fromkeys(threads, 0)
        self._attached: set[int] = set()

    def system_calls(self, threads: Iterable[int]) -> float:
        """How many these threads have made in the block; one that waits in one has made half of it."""
        return sum(self._stops[thread] for thread in threads) / 2

    def serve(self, descriptor: int, seconds: float) -> None:
        """Let the threads go on, and count, until the descriptor can be read.  Raises TimeoutError."""
        for thread, stop in self._told(seconds, descriptor):
            self._go_on(thread, stop)

    def __enter__(self) -> Tracer:
        # Each stop is told by a SIGCHLD, and Python writes a byte here for each signal.
        self._bell, self._bell_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_handler = signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
        self._old_bell_end = signal.set_wakeup_fd(self._bell_end, warn_on_full_buffer=False)
        try:
            for thread in self._stops:
                _ptrace(_SEIZE, thread, _MARK_SYSCALL_STOPS)
                self._attached.add(thread)
            self._interrupt(_SYSCALL)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None = None,
        _error: BaseException | None = None,
        _traceback: TracebackType | None = None,
    ) -> None:
        try:
            self._interrupt(_DETACH)
        finally:
            signal.set_wakeup_fd(self._old_bell_end)
            signal.signal(signal.SIGCHLD, self._old_handler)
            os.close(self._bell)
            os.close(self._bell_end)

    def _interrupt(self, request: int) -> None:
        """Stop each thread, wherever it is, to make the request of it."""
        waiting = set(self._attached)
        for thread in waiting:
            _ptrace(_INTERRUPT, thread)
        for thread, stop in self._told(ATTACH_SECONDS) if waiting else ():
            # Its first stop, whatever for: any other one makes up for the interrupt.
            self._go_on(thread, stop, request if thread in waiting else _SYSCALL)
            waiting.discard(thread)
            if not waiting:
                return

    def _go_on(self, thread: int, stop: int, request: int = _SYSCALL) -> None:
        if stop == _SYSCALL_STOP:
            self._stops[thread] += 1
        _ptrace(request, thread, 0 if stop in (_SYSCALL_STOP, _EVENT_STOP) else stop)

    def _told(self, seconds: float, until: int | None = None) -> Iterator[tuple[int, int]]:
        """Threads that have stopped, and what for, until that descriptor can be read."""
        poll = select.poll()
        for descriptor in (self._bell,) if until is None else (self._bell, until):
            poll.register(descriptor, select.POLLIN)
        end = time.monotonic() + seconds
        while True:
            # First of all: what has come may have rung before.
            while (one := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG | _WALL)) is not None:
                yield one.si_pid, one.si_status
            rung = {descriptor for descriptor, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000)}
            if not rung:
                raise TimeoutError(f"the traced threads took more than {seconds:.0f} s")
            if until in rung:
                return
            os.read(self._bell, 65536)


def _ptrace(request: int, thread: int, data: int = 0) -> None:
    if _libc.ptrace(request, thread, None, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace of thread {thread}: {os.strerror(number)}")
