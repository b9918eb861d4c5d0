"""The daemon at work: sockets and processes on one side, the rule book on the other.

Whatever happens becomes an event; `submit` hands it to the broker with the time, performs the
effects in their order, and so is the only place where time enters the rule book.  Events that
come up while effects are performed (a process that could not be prepared) wait their turn.

The loop's timer for the rule book is only ever moved forward: deadlines move back with almost
every call, an early `TimePassed` is harmless, and so a warm call costs no timer.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import warmd
from warmd.daemon.catalog import Catalog
from warmd.daemon.cgroup import Cgroups
from warmd.daemon.control import Control
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.describing import Describer
from warmd.daemon.devices import Devices
from warmd.daemon.diary import ToldBroker
from warmd.daemon.failures import consequence, problem_of_lookup
from warmd.daemon.fleet import Fleet
from warmd.daemon.folders import remove_leftovers
from warmd.daemon.front import Front
from warmd.daemon.gpuorders import GpuOrders
from warmd.daemon.helpers import Helpers
from warmd.daemon.launch import check_descriptors
from warmd.daemon.leftovers import folders_in_service, in_service, kill_leftovers
from warmd.daemon.logs import SessionLogs
from warmd.daemon.loop import Loop, Timer
from warmd.daemon.memory import MemoryWatch
from warmd.daemon.remote import Remote
from warmd.daemon.settings import Settings
from warmd.daemon.story import Story
from warmd.daemon.tree import become_subreaper
from warmd.daemon.why import Why
from warmd.daemon.worker.shortage import with_remedy
from warmd.protocol import messages as msg
from warmd.protocol import places
from warmd.protocol.keys import KeyFolder
from warmd.protocol.messages import NEW_SESSION, PROTOCOL, ClientId, FromDaemon, SessionId
from warmd.protocol.work import NO_WORKER, AppSpec

log = logging.getLogger("warmd.server")

GOODBYE_SECONDS = 1.0
"""For the last lines of logs to be read, and for the last answers to leave the socket, when it stops."""
SIGNALS_TO_LEAVE = 3
"""The first SIGTERM or SIGINT drains, the second kills what runs, the third waits for nothing."""


class BrokenInvariant(BaseException):
    """The rule book contradicts itself (under WARMD_CHECK=1): nothing may go on from there."""


class Server:
    """One daemon.  The caller holds the run directory's lock.  Raises OSError if a socket cannot be bound.

    `Control` is given this object as its `Services`.  In the main thread SIGTERM and SIGINT stop
    it, and orphans are reaped as they end.
    """

    def __init__(self, settings: Settings, broker: ToldBroker, catalog: Catalog, logs: SessionLogs) -> None:
        self.settings = settings
        self.broker = broker
        self.catalog = catalog
        self.logs = logs
        self.boot = secrets.token_hex(16)
        self.started = time.monotonic()
        self.own_lines_dropped: Callable[[], int] = lambda: 0
        """Of the daemon's own log; set by who writes it."""
        self.loop = Loop()
        self._check = os.environ.get("WARMD_CHECK") == "1"
        self._waiting: deque[ev.Event] = deque()
        self._busy = False
        self._timer: Timer | None = None
        self._signals = 0
        self.in_thread = Helpers(self.loop).call
        run_dir = settings.run_path
        self.remote: Remote | None = None
        self._keys = KeyFolder(places.keys_dir(run_dir))
        if killed := kill_leftovers(str(run_dir)):
            log.warning("killed %d processes that an earlier daemon had left behind", killed)
        remove_leftovers(run_dir, folders_in_service)
        self.cgroups = Cgroups.open(settings.cgroup, os.path.realpath(run_dir), in_service)
        self.fleet = self._open_fleet(run_dir)
        self._devices = Devices(self.loop, settings.gpu_driver)
        self.gpus = GpuOrders(self._devices, self.fleet.token_of, self.fleet.worker_of, self.submit)
        self.describer = Describer(self.fleet, self.loop, settings.start_timeout)
        self.front = self._open_front(run_dir)
        broker.story.who = self._who
        self.front.told_of_refusal = lambda call, said: broker.story.refused(call, said, self.now())
        self.why = Why(broker, self.fleet.look, self.started)
        self.control = Control(self)
        self._perform_by = self._performers()
        self.loop.before_wait += [self._arm, logs.serve]
        if logs.inotify_fd >= 0:
            self.loop.watch(logs.inotify_fd, lambda _mask: logs.readable())
        become_subreaper()
        if threading.current_thread() is threading.main_thread():
            self._take_signals()

    def _take_signals(self) -> None:
        self.loop.on_signal(signal.SIGCHLD, self.fleet.reap_orphans)
        self.loop.on_signal(signal.SIGTERM, self._on_stop_signal)
        self.loop.on_signal(signal.SIGINT, self._on_stop_signal)

    def _open_fleet(self, run_dir: Path) -> Fleet:
        settings = self.settings
        limit = None if settings.worker_memory == math.inf else int(settings.worker_memory)
        return Fleet(
            self.loop,
            run_dir,
            settings.max_message_bytes,
            self.logs,
            self._of_worker,
            MemoryWatch(self.loop, limit),
            settings.worker_memory_rlimit,
            self.cgroups,
            settings.max_lent_bytes,
        )

    def _open_front(self, run_dir: Path) -> Front:
        settings = self.settings
        welcome = msg.Welcome(
            PROTOCOL,
            warmd.__version__,
            self.boot,
            os.getpid(),
            settings.max_message_bytes,
            settings.call_timeout,
        )
        if settings.listen:
            self.remote = Remote(self.loop, settings.listen, self._keys)
        return Front(
            self.loop,
            places.socket_path(run_dir),
            welcome,
            self._handlers(),
            self._gone,
            self._behind,
            self._caught_up,
            max_unread_bytes=settings.max_unread_bytes,
            max_connections=settings.max_connections,
            remote=self.remote,
            lanes=self.fleet.door.lanes,
        )

    def run(self) -> None:
        """Serve until stopped."""
        # What is here now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        self.loop.run()

    def close(self, ignore_signals: bool = False) -> None:
        """Release everything; workers that are still there are killed.  `ignore_signals` as in `Loop`."""
        self._devices.close()
        self.fleet.close()
        self.front.close(GOODBYE_SECONDS)
        if self.logs.inotify_fd >= 0:
            self.loop.unwatch(self.logs.inotify_fd)
        self.loop.close(ignore_signals)

    # Services

    def now(self) -> float:
        return time.monotonic()

    @property
    def story(self) -> Story:
        return self.broker.story

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        return self.loop.call_at(when, callback)

    def tell_of_turns(self, turned: Callable[[], object] | None) -> None:
        self.broker.turned = turned

    def send(self, client: ClientId, message: FromDaemon) -> None:
        self.front.send(client, message)

    def submit(self, event: ev.Event) -> None:
        """Hand an event to the rule book and perform what it orders; not at once within a turn."""
        waiting = self._waiting
        if self._busy:
            waiting.append(event)
            return
        self._busy = True
        try:
            self._turn(event)
            while waiting:
                self._turn(waiting.popleft())
        finally:
            self._busy = False

    def _of_worker(self, event: ev.AboutWorker) -> None:
        if event.worker < NO_WORKER:
            self.describer.told(event)
        else:
            self.submit(event)

    def request_stop(self, drain_seconds: float) -> None:
        """Take no more work, let what runs finish for `drain_seconds`, then leave `run()`."""
        self.submit(ev.DrainArrived(drain_seconds))

    def reload_keys(self, done: Callable[[int | BaseException], None]) -> None:
        def read(names: dict[bytes, str] | BaseException) -> None:
            done(names if isinstance(names, BaseException) else self.front.admit_keys(names))

        self.in_thread(self._keys.clients, read)

    def gpu_infos(self) -> Mapping[str, Any]:
        """`gpus`, and `no_gpus`: why there are none."""
        return {"gpus": self.gpus.infos(self.fleet.session_of), "no_gpus": self.gpus.why_none or None}

    def counters(self) -> Mapping[str, int]:
        return {
            "clients": len(self.front.connected()),
            "dropped_messages": sum(self.front.counters.values()),
            "strangers_turned_away": self.fleet.door.turned_away,
            "log_lines_dropped": self.fleet.lines_dropped,
            "daemon_log_lines_dropped": self.own_lines_dropped(),
        }

    def _who(self, client: ClientId) -> str:
        pid, name = self.front.connected().get(client, (0, "a client that has left"))
        return f"{name} (pid {pid})" if pid else name

    # Events

    def _turn(self, event: ev.Event) -> None:
        try:
            effects = self.broker.handle(event, time.monotonic())
        except Exception as error:
            effects = self._contained(event, error)
        perform_by = self._perform_by
        for effect in effects:
            try:
                perform_by[type(effect)](effect)
            except Exception as error:
                self._not_performed(effect, error)
        if self._check:
            try:
                self.broker.check()
            except AssertionError as error:
                raise BrokenInvariant(f"after {event!r:.500}: {error}") from error

    def _contained(self, event: ev.Event, error: Exception) -> list[fx.Effect]:
        log.exception("the rule book failed on %s", type(event).__name__)
        if self._check:
            raise BrokenInvariant(f"{event!r:.500}") from error
        return self.broker.contain(event, error)

    def _not_performed(self, effect: fx.Effect, error: Exception) -> None:
        log.exception("%s could not be performed", type(effect).__name__)
        text = f"{type(effect).__name__} failed in the daemon: {error!r:.300}"
        follows = consequence(effect, text)
        if isinstance(follows, fx.Send):
            self.front.send(follows.client, follows.message)
        elif follows is not None:
            self.submit(follows)

    def _arm(self) -> bool:
        """Before each wait: see to it that the loop wakes by the rule book's next deadline."""
        due = self.broker.deadline()
        timer = self._timer
        if due is not None and (timer is None or due < timer.when):
            if timer is not None:
                timer.cancel()
            self._timer = self.loop.call_at(due, self._time_passed)
        return False

    def _time_passed(self) -> None:
        self._timer = None
        self.submit(ev.TimePassed())

    def _handlers(self) -> Mapping[type, Callable[[ClientId, Any], object]]:
        return {
            msg.Hello: self._hello,
            msg.Call: self._call,
            msg.Request: lambda client, request: self.control.handle(client, request, self.now()),
            msg.Credit: self._credit,
            msg.Cancel: self._cancel,
            msg.Attach: lambda client, attach: self.submit(ev.AttachArrived(client, attach)),
        }

    def _hello(self, client: ClientId, hello: msg.Hello) -> None:
        if hello.session is not None:
            self.submit(ev.ClientInside(client, SessionId(hello.session)))

    def _call(self, client: ClientId, call: msg.Call) -> None:
        # A call that names its session opens none, and needs no id for it.
        fresh = os.urandom(16).hex() if call.session is None or call.session == NEW_SESSION else ""
        self.submit(ev.CallArrived(client, call, fresh))

    def _credit(self, client: ClientId, credit: msg.Credit) -> None:
        if (streams := self.control.stream_of(client, credit.id)) is not None:
            streams.credit(client, credit.id, credit.parts)
        else:
            self.submit(ev.CreditArrived(client, credit.id, credit.parts))

    def _cancel(self, client: ClientId, cancel: msg.Cancel) -> None:
        if (streams := self.control.stream_of(client, cancel.id)) is not None:
            streams.cancel(client, cancel.id, cancel.how)
        elif cancel.how != "finish":
            self.submit(ev.CancelArrived(client, cancel.id, cancel.how))

    def _gone(self, client: ClientId) -> None:
        for streams in self.control.streams:
            streams.client_gone(client)
        self.submit(ev.ClientGone(client))

    def _behind(self, client: ClientId, unread: int) -> None:
        self._pause(client, True)
        self.submit(ev.ClientBehind(client, unread))

    def _caught_up(self, client: ClientId) -> None:
        self.submit(ev.ClientCaughtUp(client))
        self._pause(client, False)

    def _pause(self, client: ClientId, paused: bool) -> None:
        for streams in self.control.streams:
            streams.pause(client, paused)

    def _on_stop_signal(self) -> None:
        self._signals += 1
        if self._signals >= SIGNALS_TO_LEAVE:
            self.loop.stop()
        else:
            self.request_stop(self.settings.drain_timeout if self._signals == 1 else 0.0)

    # Effects

    def _performers(self) -> Mapping[type, Callable[[Any], object]]:
        return {
            fx.Send: lambda effect: self.front.send(effect.client, effect.message),
            fx.Answer: lambda effect: self.control.answer(effect, self.now()),
            fx.LookUp: self._look_up,
            fx.Spawn: self._if_descriptors(self.fleet.spawn),
            fx.Prepare: self._if_descriptors(self.fleet.prepare),
            fx.Fork: self._if_descriptors(self.fleet.fork),
            fx.ShareLog: lambda effect: self.logs.share(effect.session, effect.log),
            fx.Tell: lambda effect: self.fleet.tell(effect.worker, effect.message),
            fx.Pause: lambda effect: self.fleet.door.pause(effect.worker, True),
            fx.Resume: lambda effect: self.fleet.door.pause(effect.worker, False),
            fx.Withdraw: self.fleet.withdraw,
            fx.RequestCancel: self.fleet.request_cancel,
            fx.Interrupt: self.fleet.interrupt,
            fx.CaptureStack: self.fleet.capture_stack,
            fx.Kill: self.fleet.kill,
            fx.Look: self.gpus.look,
            fx.Checkpoint: self.gpus.checkpoint,
            fx.Restore: self.gpus.restore,
            fx.Forget: self.fleet.forget,
            fx.Stopped: self._stopped,
        }

    def _if_descriptors(self, start: Callable[[Any], None]) -> Callable[[Any], None]:
        """An order to start a process; refused where descriptors are short, before it takes any."""

        def perform(effect: fx.Spawn | fx.Prepare | fx.Fork) -> None:
            try:
                check_descriptors(self.fleet.door.coming)
            except OSError as error:
                self.submit(ev.SpawnFailed(effect.worker, with_remedy(error)))
            else:
                start(effect)

        return perform

    def _look_up(self, effect: fx.LookUp) -> None:
        def done(found: AppSpec | BaseException) -> None:
            if isinstance(found, BaseException):
                problem = problem_of_lookup(found, effect.app.name)
                self.submit(ev.AppMissing(effect.session, problem))
            else:
                self.submit(ev.AppFound(effect.session, found))

        self.in_thread(lambda: self.catalog.lookup(effect.app), done)

    def _stopped(self, _effect: fx.Stopped) -> None:
        self.logs.serve(GOODBYE_SECONDS)
        self.front.broadcast(msg.Goodbye("the daemon was stopped"))
        self.loop.stop()
