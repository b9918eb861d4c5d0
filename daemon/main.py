"""The daemon's life as a process: directory, lock, log, signals, readiness, clean-up.

Exit codes: 0 after a stop that was asked for; 75 where another daemon runs already; 78 where the
run directory or its sockets cannot be used; 70 after a failure of the daemon itself.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator

import warmd
from warmd.daemon.catalog import Catalog
from warmd.daemon.diary import ToldBroker
from warmd.daemon.folders import remove_leftovers
from warmd.daemon.leftovers import folders_in_service, kill_adopted
from warmd.daemon.logs import SessionLogs
from warmd.daemon.ownlog import OwnLog
from warmd.daemon.prewarm import prewarm
from warmd.daemon.processes import await_exit
from warmd.daemon.security import AlreadyRunning, RunDirectory, StartError, harden
from warmd.daemon.server import Server
from warmd.daemon.settings import Settings
from warmd.protocol import places
from warmd.protocol.errors import told

log = logging.getLogger("warmd.main")

STOPPED = 0
FAILED = 70
ALREADY_RUNNING = 75
CANNOT_START = 78

TRACKER_SECONDS = 2.0
TRACKERS = ("multiprocessing.resource_tracker", "loky.backend.resource_tracker")


def serve(
    settings: Settings, ready_fd: int | None = None, lifeline_fd: int | None = None, private: bool = False
) -> int:
    """Runs the daemon in this process until it is stopped; its exit code.

    On `ready_fd` it writes `ready` and a newline once clients can connect, or why it could not start,
    and closes it.  At end-of-file of `lifeline_fd` it stops and lets no call finish.  `private`
    removes the run directory at the end.
    """
    _fill_standard_streams()
    notice = _Notice(ready_fd)
    with _logging(settings) as own_log:
        try:
            with _run_directory(settings, private):
                return _run(settings, notice, lifeline_fd, own_log)
        except StartError as error:
            log.error("%s", error)
            notice.give(f"{error}\n")
            return ALREADY_RUNNING if isinstance(error, AlreadyRunning) else CANNOT_START
        except BaseException as error:
            log.critical("the daemon failed: %r", error, exc_info=True)
            notice.give(f"the daemon failed: {error!r}\n")
            return FAILED


def _fill_standard_streams() -> None:
    """Closed ones would be given to sockets of ours, which workers then take for their output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


@contextlib.contextmanager
def _run_directory(settings: Settings, private: bool) -> Iterator[None]:
    harden()
    directory = RunDirectory.take(settings.run_path)
    try:
        yield
    finally:
        _end_trackers()
        directory.close(remove=private)


def _run(settings: Settings, notice: _Notice, lifeline_fd: int | None, own_log: OwnLog) -> int:
    started = time.monotonic()
    logs = SessionLogs(places.logs_dir(settings.run_path), settings.log_max_bytes, settings.log_keep)
    try:
        catalog = Catalog(settings.app_folders, settings.classes, settings.reload)
        try:
            server = Server(settings, ToldBroker(settings.limits(), time.monotonic()), catalog, logs)
        except Exception as error:
            text = f"the daemon cannot open its sockets in {settings.run_path}: {told(error)}"
            raise StartError(text) from error
        logs.in_thread = server.in_thread
        server.own_lines_dropped = lambda: own_log.lines_dropped
        try:
            _watch_lifeline(server, lifeline_fd)
            _ignore_hangup(server)
            _announce(server, settings, time.monotonic() - started)
            # From within the loop: by then SIGTERM is a stop and no longer a sudden death.
            server.loop.post(lambda: notice.give("ready\n"))
            prewarm(server)
            server.run()
        finally:
            try:
                server.close(ignore_signals=True)
            finally:
                if killed := kill_adopted():
                    log.warning("killed %d processes that ended sessions had left behind", killed)
                remove_leftovers(settings.run_path, folders_in_service)
    finally:
        logs.close()
    log.info("stopped", extra={"pid": os.getpid()})
    return STOPPED


def _announce(server: Server, settings: Settings, took_seconds: float) -> None:
    addresses = [places.address_of(places.socket_path(settings.run_path))]
    if server.remote is not None:
        addresses.append(server.remote.address)
    log.info(
        "warmd %s serves at %s (ready in %.0f ms)",
        warmd.__version__,
        " and ".join(addresses),
        took_seconds * 1000,
        extra={"pid": os.getpid()},
    )
    for folder in settings.app_folders:
        if not os.path.isdir(folder):
            log.warning("WARMD_APPS names %s, and there is no such folder: none of its apps is found", folder)


class _Notice:
    """Tells whoever started the daemon, once, how that went."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        if fd is not None:
            os.set_inheritable(fd, False)

    def give(self, text: str) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            # The one who asked may have lost patience; that is no reason not to serve.
            with contextlib.suppress(OSError):
                os.write(fd, text.encode("utf-8", "replace")[: select.PIPE_BUF])
            with contextlib.suppress(OSError):
                os.close(fd)


def _watch_lifeline(server: Server, fd: int | None) -> None:
    if fd is None:
        return
    os.set_inheritable(fd, False)
    os.set_blocking(fd, False)

    def readable(_mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            if os.read(fd, 4096):
                return
            server.loop.unwatch(fd)
            os.close(fd)
            log.info("the process that this daemon belongs to is gone: stopping")
            server.request_stop(0.0)

    server.loop.watch(fd, readable)


def _ignore_hangup(server: Server) -> None:
    """A handler, not SIG_IGN: workers would inherit that."""
    if threading.current_thread() is threading.main_thread():
        server.loop.on_signal(
            signal.SIGHUP, lambda: log.info("SIGHUP changes nothing: settings are read at the start")
        )


def _end_trackers() -> None:
    """The resource trackers of multiprocessing and loky would outlive the daemon for a while: they
    ignore SIGTERM and wait until the last holder of their pipe is gone."""
    for name in TRACKERS:
        tracker = getattr(sys.modules.get(name), "_resource_tracker", None)
        fd, pid = getattr(tracker, "_fd", None), getattr(tracker, "_pid", None)
        if tracker is None or fd is None:
            continue
        tracker._fd = tracker._pid = None
        os.close(fd)
        if pid is not None:
            _await_end(pid)


def _await_end(pid: int) -> None:
    """Waits for a child of ours, and kills it when it does not end by itself."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if not await_exit(pidfd, TRACKER_SECONDS):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def _logging(settings: Settings) -> Iterator[OwnLog]:
    """The daemon's log goes to stderr; a stderr that is full or closed costs log lines only."""
    logger = logging.getLogger("warmd")
    handler = OwnLog(places.daemon_log_path(settings.run_path), settings.daemon_log_max_bytes)
    logger.addHandler(handler)
    logger.setLevel(settings.log_level.upper())
    logger.propagate = False
    if sys.stderr is not None and not faulthandler.is_enabled():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            faulthandler.enable()
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.propagate = True
