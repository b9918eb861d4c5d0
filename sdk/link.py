"""Many threads on one connection, without a thread of its own: leader and followers.

Of the threads that wait for something, one is the leader: it polls the connection's descriptors,
and hands over what comes, to whomever.  The others sleep, each by a bell of its own, until their
call has changed or the lead is free.  Whoever wants to send does so at once, under the mutex; the
leader polls outside of it, and plain descriptors, so the socket is never used by two.

Sending can swallow the edge that would have woken the leader (see `transport`), so who sends while
somebody polls receives as well, and wakes the leader if there was something for it.

KeyboardInterrupt may strike anywhere here in the main thread: `finally` clauses hand on the lead,
and the books themselves (`Exchange`) can be interrupted.  The mutex can be entered again, because
signal handlers and finalizers run in the middle of everything and may cancel, drop or close.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from typing import Literal, TypeAlias

from warmd.protocol.errors import DaemonLost
from warmd.protocol.messages import Attach, Call, CallId, Part, Request
from warmd.protocol.pending import Pending
from warmd.protocol.segments import KEPT_SECONDS
from warmd.protocol.units import LONGEST_WAIT_SECONDS
from warmd.result import raise_problem
from warmd.transport import Transport, weakly

Ready: TypeAlias = Callable[[Pending], bool]
LAST_LOOK_SECONDS = 0.02
"""How long the descriptors are watched once more before a call is given up: after SIGCONT the
answers may not have got further than the kernel."""


def done(pending: Pending) -> bool:
    """The call has ended."""
    return pending.result is not None or pending.problem is not None


def admitted(pending: Pending) -> bool:
    """The call's session is known, or the call has ended."""
    return pending.accepted or done(pending)


def readable(pending: Pending) -> bool:
    """There is a part to take, or the stream has ended."""
    return bool(pending.parts) or done(pending)


class _Bell:
    """What a sleeping thread is woken by, once for any number of rings.

    Not threading.Event: it is Python within, so a KeyboardInterrupt in it can leave its lock taken, and
    then whoever rings waits for ever.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it rings already
            self._lock.release()

    def wait(self, seconds: float | None) -> None:
        """Until it rings, at most so long; it is silent afterwards."""
        self._lock.acquire(timeout=-1 if seconds is None else seconds)


class _Waiter:
    """A thread in `Link.wait`."""

    __slots__ = ("_watcher", "bell", "pending")

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self.bell: _Bell
        self._watcher: Callable[[], None] | None = None

    def watch(self, watcher: Callable[[], None] | None) -> None:
        """Have `watcher`, in place of the last one, called when the call changes."""
        watchers = self.pending.watchers
        if self._watcher in watchers:
            watchers.remove(self._watcher)
        self._watcher = watcher
        if watcher is not None:
            watchers.append(watcher)


class Link:
    """A connection shared by the threads of a blocking client."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.exchange = transport.exchange
        self._mutex = threading.RLock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._finalizer = weakref.finalize(self, os.close, self._wake)
        # Functions of `atexit` may use the client; the descriptor goes with the process anyway.
        self._finalizer.atexit = False
        self._poll = select.poll()
        for descriptor in (transport.descriptor, transport.monitor_descriptor, self._wake):
            self._poll.register(descriptor, select.POLLIN)
        self._leader: _Waiter | None = None
        self._leading_thread = 0
        self._polling_until = 0.0
        """0 when nobody polls."""
        self._followers: dict[_Waiter, _Bell] = {}
        self._closed = False
        self._trimmer: threading.Timer | None = None
        self._forgotten = weakref.finalize(self, int)
        transport.on_return = weakly(self._hand_back_from_finalizer)
        self._abandoned: list[CallId] = []
        """Streams whose readers were collected as garbage: their `Cancel` is yet to be sent."""

    @property
    def usable(self) -> bool:
        """Whether a new call can be begun here, as far as is known."""
        return self.transport.lost is None and not self.transport.inherited

    def run(self, message: Call | Request, patience: float | None) -> Pending:
        """Send a call and wait for its end.  If interrupted, the call is cancelled."""
        try:
            pending = self.begin(message, patience)
            self.wait(pending, done)
        except BaseException:
            self.drop(message.id)
            raise
        return pending

    def begin(self, message: Call | Request | Attach, patience: float | None) -> Pending:
        """Send a call or request; returns at once."""
        try:
            with self._mutex:
                if (self.exchange.busy or self.transport.lends) and self.transport.lost is None:
                    # Whoever asks for more takes what has come: the daemon refuses those who never do,
                    # and memory that was handed back can be filled again, on either side.
                    if self.transport.returns:
                        self.transport.flush()
                    self.transport.pump()
                pending = self.exchange.begin(message, time.monotonic(), patience)
                self._sent()
                if pending.due is not None and pending.due < self._polling_until:
                    self._wake_leader()
        except BaseException:
            self.drop(message.id)
            raise
        return pending

    def await_admission(self, pending: Pending) -> None:
        """Wait until the daemon has taken the call.  Raises why it has not; cancels it if interrupted."""
        try:
            self.wait(pending, admitted)
            if not pending.accepted:
                raise_problem(pending)
        except BaseException:
            self.drop(pending.id)
            raise

    def wait(self, pending: Pending, ready: Ready, until: float | None = None) -> bool:
        """Wait until `ready(pending)`, or `until` (monotonic seconds); whether it is ready."""
        if ready(pending):
            return True
        self._check_process()
        waiter: _Waiter | None = None
        try:
            while True:
                with self._mutex:
                    if self._look(pending, ready):
                        return True
                    rest = self._rest(until)
                    if rest is not None and rest <= 0:
                        return False
                    waiter = waiter or _Waiter(pending)
                    leading = self._take_place(waiter, rest)
                if leading:
                    self._poll_once(rest)
                else:
                    waiter.bell.wait(rest)
        finally:
            try:
                self._leave(waiter)
            except BaseException:
                # Interrupted on its way out: with the lead lost, the other threads would sleep on.
                self._leave_at_last(waiter)
                raise

    def take(self, pending: Pending) -> Part | None:
        """Wait for the next part of a stream; None at its end."""
        self.wait(pending, readable)
        with self._mutex:
            part = self.exchange.take(pending)
            if self.exchange.outbox or self.transport.returns:
                self._sent()
        return part

    def cancel(self, pending: Pending, how: Literal["cancel", "finish"] = "cancel") -> None:
        """Ask for the end of a call, which is still answered."""
        self._check_process()
        with self._mutex:
            self.exchange.cancel(pending, how)
            self._sent()

    def drop(self, call: CallId, how: Literal["cancel", "abandon"] = "cancel") -> None:
        """Cancel a call that nobody waits for any more."""
        if not self.usable:
            return
        with self._mutex:
            self.exchange.drop(call, how)
            self._sent()

    def abandon_later(self, call: CallId) -> None:
        """`drop` for finalizers."""
        self._abandoned.append(call)
        self._send_from_finalizer()

    def _hand_back_from_finalizer(self) -> None:
        # A Ctrl-C that strikes in a finalizer is lost: in the main thread this goes with what is sent next.
        if threading.current_thread() is not threading.main_thread():
            self._send_from_finalizer()

    def _send_from_finalizer(self) -> None:
        # Bounded: two threads could each collect garbage of the other's link.
        if self.usable and not self.transport.mid_message and self._mutex.acquire(timeout=LAST_LOOK_SECONDS):
            try:
                self._sent()
            finally:
                self._mutex.release()

    def peek(self, pending: Pending, ready: Ready) -> bool:
        """Whether `ready(pending)`, after receiving what has come."""
        self._check_process()
        with self._mutex:
            if self.transport.lost is None:
                self.transport.pump()
            return ready(pending)

    def close(self) -> None:
        """End what is under way with DAEMON_LOST and release the descriptors."""
        if self.transport.inherited:
            return
        with self._mutex:
            self._closed = True
            if self.transport.lost is None:
                self.exchange.connection_lost("this client was closed", time.monotonic())
            if self._polling_until:
                self._wake_leader()
            if self._trimmer is not None:
                self._trimmer.cancel()
            self._release()

    def _check_process(self) -> None:
        if self.transport.inherited:
            raise DaemonLost(
                f"this call belongs to process {self.transport.pid}, which forked: its answer goes there",
                ran="maybe",
            )

    def _sent(self) -> None:
        while self._abandoned:
            self.exchange.drop(self._abandoned.pop(), "abandon")
        if self.transport.lost is not None:
            return
        self.transport.flush()
        if self._polling_until:
            self.transport.pump()
        if self._trimmer is None and self.transport.lane is not None and self.transport.lane.keeps_memory:
            self._trim_later(KEPT_SECONDS)

    def _trim_later(self, seconds: float) -> None:
        """A thread for as long as there is memory to be let go: nobody may call here again."""
        self._trimmer = threading.Timer(seconds, weakly(self._trim))
        self._trimmer.daemon = True
        self._forgotten.detach()
        self._forgotten = weakref.finalize(self, self._trimmer.cancel)
        self._forgotten.atexit = False
        self._trimmer.start()

    def _trim(self) -> None:
        with self._mutex:
            self._trimmer = None
            lane = self.transport.lane
            if self._closed or self.transport.lost is not None or lane is None:
                return
            self.transport.flush()  # what was handed back since the last call, by either side
            self.transport.pump()
            now = time.monotonic()
            due = lane.trim(now)
            if due is not None:
                self._trim_later(max(due - now, LAST_LOOK_SECONDS))
            elif lane.keeps_memory:
                self._trim_later(KEPT_SECONDS)

    def _rest(self, until: float | None) -> float | None:
        """How long to wait before the next look; None for as long as it takes."""
        due = self.exchange.deadline()
        now = time.monotonic()
        rest = None if due is None else max(due - now, LAST_LOOK_SECONDS)
        if until is not None:
            rest = until - now if rest is None else min(until - now, rest)
        return None if rest is None else min(rest, LONGEST_WAIT_SECONDS)

    def _take_place(self, waiter: _Waiter, rest: float | None) -> bool:
        """Make `waiter` the leader if there is none, else a follower; whether it leads."""
        if self._leader is None:
            self._followers.pop(waiter, None)
            self._leader = waiter
            self._leading_thread = threading.get_ident()
            waiter.watch(self._wake_leader)
        if self._leader is waiter:
            self._polling_until = math.inf if rest is None else time.monotonic() + rest
            return True
        if self._leading_thread == threading.get_ident():
            raise RuntimeError("a signal handler cannot wait for a call while its own thread waits for one")
        if waiter not in self._followers:
            waiter.bell = self._followers[waiter] = _Bell()
            waiter.watch(waiter.bell.ring)
        return False

    def _poll_once(self, rest: float | None) -> None:
        """As the leader: wait for the descriptors, and look at what they say."""
        try:
            ready = self._poll.poll(None if rest is None else rest * 1000 + 1)
        finally:
            self._polling_until = 0.0
        found = {descriptor for descriptor, _ in ready}
        if self._wake in found:
            os.eventfd_read(self._wake)
        with self._mutex:
            if self.transport.lost is not None:
                return
            if self.transport.monitor_descriptor in found:
                self.transport.look_at_monitor()
            elif self.transport.descriptor in found:
                self.transport.step(hopeful=True)
            elif not found and not self.transport.pump():
                self.exchange.time_passed(time.monotonic())
                self.transport.flush()

    def _look(self, pending: Pending, ready: Ready) -> bool:
        """Receive what has come, if nobody polls no more than is needed; whether it is ready."""
        transport = self.transport
        while self._polling_until or not ready(pending):
            if transport.lost is not None or not transport.step():
                return ready(pending)
        return True

    def _leave_at_last(self, waiter: _Waiter | None) -> None:
        try:
            self._leave(waiter)
        except BaseException:  # an alarm that rings each millisecond strikes a second time
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter | None) -> None:
        if waiter is None:
            return
        with self._mutex:
            waiter.watch(None)
            self._followers.pop(waiter, None)
            if self._leader is waiter:
                self._leader = None
            if self._leader is None:
                for bell in self._followers.values():
                    bell.ring()
                    break
            self._release()

    def _release(self) -> None:
        if self._closed and self._leader is None and not self._followers:
            self.transport.close()
            self._finalizer()

    def _wake_leader(self) -> None:
        if self._polling_until:
            os.eventfd_write(self._wake, 1)
