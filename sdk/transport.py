"""One connection: a DEALER socket, its monitor, and the `Exchange` whose messages it carries.

It neither waits nor locks; its owner does.  What the owner must know:

* The descriptors are edge-triggered, and sending can swallow an edge: after each `flush` while
  somebody waits for the descriptors, and before each wait, everything must be received (`pump`).
* Each connection has a socket of its own that never reconnects.  libzmq would queue a call while
  the daemon is down and the next daemon would run it, long after its caller saw it fail.  But the
  options that say so (IMMEDIATE, RECONNECT_IVL -1) also throw away, when the connection ends, the
  answers that have come and were not read yet.  So it is to reconnect in weeks, and is closed long
  before; and before each send the monitor is asked whether the connection is still there.
* All frames of a message are sent, and all that have come are received, within one C call.  But pyzmq
  looks for signals before and after each frame, so a KeyboardInterrupt can still tear a message apart,
  and nobody knows where.  What comes next would be taken for its end, and the call be run with that.  So
  first such frames go out as make one of it that the daemon drops.  Of what was being received, a frame
  may be gone: nobody knows of which message, so the connection is given up.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import zmq
import zmq.backend

from warmd import __version__
from warmd.lane import Lane
from warmd.protocol.exchange import Exchange
from warmd.protocol.iothread import IoThread
from warmd.protocol.keys import HEARTBEAT_MILLISECONDS, SILENCE_MILLISECONDS, ClientKey, public_of
from warmd.protocol.messages import PROTOCOL, Body, Hello
from warmd.protocol.pending import Pending
from warmd.protocol.places import door_path
from warmd.protocol.regions import hand_back
from warmd.protocol.wire import WireError

_LOST = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_NEVER = 2**31 - 1
FRAMES_WITHOUT_REGION = 2
MANY_CALLS = 8
"""More under way are a rush (`protocol.iothread`)."""
OVER_TCP = (
    ": the key is for another daemon, it has as many connections as it takes (max_connections), or it is "
    "none of warmd's"
)
OR_REVOKED = ", or this client's key was revoked"
# Plain integers: pyzmq's enums cost more than the call.
_DONTWAIT = int(zmq.DONTWAIT)
_NO_MESSAGE = (b"",) * 6
"""More frames than a message has, whatever comes before them."""
_FLAGS = {n: (int(zmq.SNDMORE) | _DONTWAIT,) * (n - 1) + (_DONTWAIT,) for n in range(1, 7)}
_ONCE = (_DONTWAIT,)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_buffer = attrgetter("buffer")


class Transport:
    """The connection to libzmq's `endpoint`, over TCP with a key; made here, established a little later."""

    def __init__(self, endpoint: str, key: ClientKey | None = None) -> None:
        self.exchange = Exchange(
            Hello(
                PROTOCOL,
                __version__,
                os.getpid(),
                os.path.basename(sys.argv[0] or "python"),
                os.environ.get("WARMD_SESSION_ID"),
            )
        )
        self.pid = os.getpid()
        self.mid_message = False
        """Finalizers run in the midst of everything: then they must not send.  True also for a while
        after an interruption."""
        self.unknown_key = False
        """The daemon has refused the key."""
        self.lane: Lane | None = None
        self.on_return: Callable[[], object] = lambda: None
        """The lane has something to hand back: in any thread, at any time."""
        self._over_tcp = key is not None
        self._door_path = None if key is not None else door_path(Path(endpoint.removeprefix("ipc://")).parent)
        self._io_thread = IoThread()
        self._torn = False
        self._taking = False
        self._inbox: list[Any] = []
        self._lanes: list[Lane] = []
        self._open_socket(endpoint, key)

    def _open_socket(self, endpoint: str, key: ClientKey | None) -> None:
        context = zmq.Context(io_threads=1)
        context.set(zmq.THREAD_NAME_PREFIX, self._io_thread.number)
        self._socket = socket = _dealer(context, key)
        self._monitor = socket.get_monitor_socket(_LOST)
        self._monitor.set(zmq.LINGER, 0)
        # Also when forgotten: libzmq would wait for open sockets when its context ends.
        self._finalizer = weakref.finalize(
            self, _close, self.pid, self.exchange, self._lanes, context, self._monitor, socket
        )
        self._finalizer.atexit = False
        _open.add(self)
        # The base class's methods are C; the subclass wraps `send` in Python.
        self._send: Any = partial(zmq.backend.Socket.send, socket)
        self._recv: Any = partial(zmq.backend.Socket.recv, socket, copy=False)
        self._get: Any = partial(zmq.backend.Socket.get, socket)
        self.descriptor = int(self._get(zmq.FD))
        self._get_monitor: Any = self._monitor.get
        self.monitor_descriptor = int(self._get_monitor(zmq.FD))
        # A pipe makes no edge before its reader has found it empty once.
        self._get_monitor(_EVENTS)
        self._poll_monitor = select.poll()
        self._poll_monitor.register(self.monitor_descriptor, select.POLLIN)
        socket.set(zmq.IPV6, int("[" in endpoint))
        socket.connect(endpoint)

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the connection's: libzmq's state does not survive that."""
        return self.pid != _pid

    @property
    def lends(self) -> bool:
        """Whether large data have gone, or come, by shared memory."""
        return self.lane is not None and self.lane.used

    @property
    def returns(self) -> bool:
        """Whether there is memory to be handed back."""
        return self.lane is not None and bool(self.lane.done_with)

    @property
    def lost(self) -> str | None:
        """Why the connection is of no use any more."""
        return self.exchange.lost

    def flush(self) -> None:
        """Send what is in the outbox; nothing into a connection that is gone."""
        outbox = self.exchange.outbox
        lane = self.lane
        if lane is not None and lane.done_with:
            self.exchange.hand_back(hand_back(lane.done_with))
        # Nothing else touches the monitor, so its edge stays; to ask it costs a microsecond more.
        if outbox and self._poll_monitor.poll(0):
            self.look_at_monitor()
        self._io_thread.wait_for_its_turn(self.exchange.under_way > MANY_CALLS)
        if self._torn:
            self._send_all(None, _NO_MESSAGE)
        elif self.mid_message:
            return  # a signal handler: who was interrupted goes on, and sends this too
        while outbox:
            self._send_all(*outbox.popleft())

    def _send_all(self, pending: Pending | None, frames: Sequence[Body]) -> None:
        if pending is not None:
            pending.sent = True
        try:
            self.mid_message = True
            deque(map(self._send, frames, _FLAGS[len(frames)]), maxlen=0)
            self._torn = self.mid_message = False
        except zmq.Again:  # libzmq has given the connection up: it was none of its protocol
            if pending is not None:
                pending.sent = False
            self._torn = self.mid_message = False
            self._lose("it went away")
        except BaseException:
            self._torn = True
            raise

    def pump(self) -> bool:
        """Send what is waiting, receive all that has come and hand it over; whether anything had."""
        came = False
        while self.step():
            came = True
        return came

    def step(self, hopeful: bool = False) -> bool:
        """`pump`, but at most one message.  `hopeful`: one has most likely come, so look at once."""
        if self.exchange.outbox:
            self.flush()
        came = self._receive(hopeful)
        if self.exchange.outbox:
            self.flush()
        return came

    def look_at_monitor(self) -> None:
        """To be called when the monitor's descriptor was readable: the connection may be gone."""
        if not self._get_monitor(_EVENTS) & _POLLIN:
            return
        while self._receive():
            pass
        if self.lost is None:
            self._lose(self._what_the_monitor_says())

    def _what_the_monitor_says(self) -> str:
        event = int.from_bytes(self._monitor.recv(zmq.DONTWAIT)[:2], sys.byteorder)
        self.unknown_key = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        if self.unknown_key:
            return "it does not know this key: it was revoked, or is for another daemon"
        if self.exchange.welcome is not None:
            return f"it ended, crashed or was killed{OR_REVOKED * self._over_tcp}"
        return f"it closed the connection at once{OVER_TCP * self._over_tcp}"

    def close(self) -> None:
        """Release the descriptors.  The owner makes sure that nobody waits for them."""
        # Not called: a finalizer does nothing any more when the interpreter is on its way out.
        found = self._finalizer.detach()
        if found is not None:
            _, close, arguments, _ = found
            close(*arguments)

    def _receive(self, hopeful: bool = False) -> bool:
        """Take one message and hand it over; whether there was one."""
        inbox = self._inbox
        if inbox:
            self._hand_over()
        if not hopeful and not self._get(_EVENTS) & _POLLIN:
            return False
        if not self._take():
            return False
        self._hand_over()
        return True

    def _take(self) -> bool:
        """Receive one frame, if one has come."""
        if self._taking:
            self._lose("a signal handler used this client in the midst of its receiving")
            return False
        try:
            self._taking = True
            self._inbox.extend(map(self._recv, _ONCE))
            self._taking = False
            return True
        except zmq.Again:
            self._taking = False
            return False
        except BaseException as interruption:
            self._inbox.clear()
            self._lose(f"{type(interruption).__name__} struck while this client received")
            raise

    def _hand_over(self) -> None:
        inbox = self._inbox
        while inbox and inbox[-1].more:
            if not self._take():
                return
        if not inbox:  # a signal handler has received in the midst of this
            return
        try:
            frames: list[Body] = [inbox[0].bytes, *map(_buffer, inbox[1:])]
            self.exchange.received(frames, time.monotonic())
            if len(frames) > FRAMES_WITHOUT_REGION or self.lane is None:
                self._see_to_lane(len(frames))
        except WireError as error:
            self._lose(f"it sent what this version does not understand ({error})")
        except Exception as error:
            # A fault of ours: who waits must hear of it, not only the thread or loop that received.
            # (Or a signal handler has raised it here: who that was nobody can know.)
            self._lose(f"this client failed on what it sent: {error!r:.300}")
        # Only now: an interrupted hand-over is repeated, and the exchange knows that.
        inbox.clear()
        if self.lane is not None:
            self.lane.taken()

    def _see_to_lane(self, frames: int) -> None:
        welcome = self.exchange.welcome
        if self.lane is None and welcome is not None and welcome.lane and self._door_path is not None:
            self.lane = Lane(str(self._door_path), welcome, weakly(self._returned))
            self._lanes.append(self.lane)
            self.exchange.carrier = self.lane
        if self.lane is not None and frames > FRAMES_WITHOUT_REGION:
            self.lane.open()  # for the next one

    def _returned(self) -> None:
        self.on_return()

    def _lose(self, reason: str) -> None:
        self.exchange.connection_lost(reason, time.monotonic())


def weakly(method: Callable[[], object]) -> Callable[[], None]:
    """The method, for those who must not keep its object: a client that is forgotten goes at once."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        found = reference()
        if found is not None:
            found()

    return call


def _dealer(context: zmq.Context[Any], key: ClientKey | None) -> zmq.Socket[Any]:
    socket: zmq.Socket[Any] = context.socket(zmq.DEALER)
    for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):
        socket.set(option, 0)
    socket.set(zmq.RECONNECT_IVL, _NEVER)
    if key is not None:
        _encrypt(socket, key)
    return socket


def _encrypt(socket: zmq.Socket[Any], key: ClientKey) -> None:
    """CURVE, and heartbeats: a host that vanishes says nothing (`daemon.remote`)."""
    for option, value in (
        (zmq.CURVE_SERVERKEY, key.daemon_public),
        (zmq.CURVE_PUBLICKEY, public_of(key.secret)),
        (zmq.CURVE_SECRETKEY, key.secret),
        (zmq.HEARTBEAT_IVL, HEARTBEAT_MILLISECONDS),
        (zmq.HEARTBEAT_TIMEOUT, SILENCE_MILLISECONDS),
    ):
        socket.set(option, value)


def _learn_pid() -> None:
    """Once a process: each call asks for it, several times."""
    global _pid
    _pid = os.getpid()


_pid: int
_learn_pid()
os.register_at_fork(after_in_child=_learn_pid)

_open: weakref.WeakSet[Transport] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """At exit only daemon threads are left, which may be in the midst of anything: theirs stay open."""
    for transport in list(_open):
        if threading.active_count() == 1 or not transport.exchange.busy:
            transport.close()


_inherited: list[tuple[Any, ...]] = []
"""A fork's copies of its parent's sockets: libzmq's state does not survive a fork."""


def _close(
    pid: int, exchange: Exchange, lanes: list[Lane], context: zmq.Context[Any], *sockets: zmq.Socket[Any]
) -> None:
    # First, for the finalizers of streams may run after this one and would send.
    exchange.connection_lost("this client was closed", time.monotonic())
    for lane in lanes:
        lane.close()
    if pid != os.getpid():
        _inherited.append((context, *sockets))
        return
    for socket in sockets:
        socket.close(0)
    context.term()
