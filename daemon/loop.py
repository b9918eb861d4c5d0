"""The reactor: one epoll, timers, and a way in for helper threads.

Everything the daemon decides happens on the thread that calls `run()`.  Callbacks never block;
what is slow runs on a named helper thread and comes back through `post()`.

A callback may be called spuriously: an event of a descriptor that was closed and whose number
was given out again within one batch reaches its successor.  So callbacks read without blocking
and take "nothing there" for an answer.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable

from warmd.protocol.units import LONGEST_WAIT_SECONDS

log = logging.getLogger("warmd.loop")

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
EVENTS_PER_TURN = 64
"""How many descriptors one turn serves before timers and the others get theirs."""


class Timer:
    """A call that is due at `when` (monotonic seconds), unless cancelled."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """`before_wait` holds functions that are asked each turn, just before the wait, whether
    there is more to do at once; they see to what epoll alone cannot tell, as of a ZeroMQ socket.
    `turn_ended` holds functions that send what the turn has gathered; they cause no more work."""

    def __init__(self) -> None:
        self.before_wait: list[Callable[[], bool]] = []
        self.turn_ended: list[Callable[[], None]] = []
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], object]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._posted: deque[Callable[[], object]] = deque()
        self._doorbell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._signals: dict[int, Callable[[], object]] = {}
        self._signal_pipe: tuple[int, int] | None = None
        self._old_handlers: dict[int, object] = {}
        self._running = True
        self.watch(self._doorbell, self._run_posted)

    def watch(self, fd: int, callback: Callable[[int], object], mask: int = READ) -> None:
        """Call `callback(mask)` whenever `fd` is ready (level-triggered).  Raises OSError."""
        self._epoll.register(fd, mask)
        self._callbacks[fd] = callback

    def change(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def unwatch(self, fd: int) -> None:
        """Call before closing `fd`; harmless for one that is not watched."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call once at `when` (monotonic seconds), late by at most the turn under way."""
        timer = Timer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_in(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return self.call_at(time.monotonic() + seconds, callback)

    def post(self, callback: Callable[[], object]) -> None:
        """From any thread: have `callback` called on the loop's thread, in the order of posting."""
        self._posted.append(callback)
        try:
            os.eventfd_write(self._doorbell, 1)
        except (OSError, ValueError):
            return  # a full counter has rung already; a loop that is over needs no bell

    def on_signal(self, signum: int, callback: Callable[[], object]) -> None:
        """Call `callback` on the loop for each signal.  Only in the main thread (ValueError)."""
        self._old_handlers.setdefault(signum, signal.signal(signum, _ignore))
        if self._signal_pipe is None:
            self._signal_pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            signal.set_wakeup_fd(self._signal_pipe[1], warn_on_full_buffer=False)
            self.watch(self._signal_pipe[0], self._run_signals)
        self._signals[signum] = callback

    def run(self) -> None:
        """Serve until `stop()`.  An exception of one callback is logged and costs only that call."""
        while self._running:
            self.turn()

    def turn(self) -> None:
        """One wait, and what it brings."""
        callbacks = self._callbacks
        for fd, mask in self._epoll.poll(self._patience(), EVENTS_PER_TURN):
            callback = callbacks.get(fd)
            if callback is not None:
                try:
                    callback(mask)
                except Exception:
                    log.exception("a callback failed")
        if self._timers:
            self._run_timers()

    def stop(self) -> None:
        """Leave `run()` after the present turn."""
        self._running = False

    def close(self, ignore_signals: bool = False) -> None:
        """Release everything.  Signals that had a callback get their old handlers back, or, where the
        process is about to end anyway, none: one more of them must not cut that short."""
        if self._signal_pipe is not None:
            signal.set_wakeup_fd(-1)
            for signum, handler in self._old_handlers.items():
                signal.signal(signum, signal.SIG_IGN if ignore_signals else handler)  # type: ignore[arg-type]
            for fd in self._signal_pipe:
                os.close(fd)
        self._callbacks.clear()
        self._epoll.close()
        # A late `post()` of a helper thread must not write into whatever gets this number next.
        doorbell, self._doorbell = self._doorbell, -1
        os.close(doorbell)

    def _patience(self) -> float:
        """How long the wait may last; -1 for as long as it takes."""
        at_once = False
        self._end_turn()
        for busy in self.before_wait:
            try:
                at_once = busy() or at_once
            except Exception:
                log.exception("a callback failed")
        self._end_turn()
        if at_once or not self._running:
            return 0
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        if not timers:
            return -1
        return min(max(0.0, timers[0][0] - time.monotonic()), LONGEST_WAIT_SECONDS)

    def _end_turn(self) -> None:
        for finish in self.turn_ended:
            try:
                finish()
            except Exception:
                log.exception("a callback failed")

    def _run_timers(self) -> None:
        now = time.monotonic()
        timers = self._timers
        while timers and timers[0][0] <= now:
            callback = heapq.heappop(timers)[2].callback
            if callback is not None:
                _guarded(callback)

    def _run_posted(self, _mask: int) -> None:
        try:
            os.eventfd_read(self._doorbell)
        except BlockingIOError:
            return
        # Only what is there now: a callback that posts again must not hold the loop.
        for _ in range(len(self._posted)):
            _guarded(self._posted.popleft())

    def _run_signals(self, _mask: int) -> None:
        assert self._signal_pipe is not None
        try:
            numbers = os.read(self._signal_pipe[0], 512)
        except BlockingIOError:
            return
        for signum in numbers:
            callback = self._signals.get(signum)
            if callback is not None:
                _guarded(callback)


def _guarded(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        log.exception("a callback failed")


def _ignore(_signum: int, _frame: object) -> None:
    """The byte in the wake-up pipe does the work; a default action must not."""
