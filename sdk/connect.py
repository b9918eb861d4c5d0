"""Finding the daemon, starting the user's own if there is none, and the handshake with it.

All of it blocks; the asyncio client does it in a thread.  Nothing here waits without an end: 3 s for
a daemon that should be there, `START_SECONDS` for one that has to start.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from warmd.locks import lock
from warmd.protocol import places
from warmd.protocol.errors import DaemonUnavailable, Invalid, NotAllowed, exception_from, told
from warmd.reach import Place, UnixPlace, place_of

if TYPE_CHECKING:
    from warmd.transport import Transport

HANDSHAKE_SECONDS = 3.0
START_SECONDS = 20.0
WORKERS_VARIABLES = (
    "WARMD_WORKER_TOKEN", "WARMD_SESSION_ID", "WARMD_DAEMON_PID", "WARMD_DAEMON_SESSION", "WARMD_APP",
    "WARMD_SESSION_TMP",
)  # fmt: skip
_READY = b"ready\n"


class Connector:
    """Knows where the daemon is and whether it may be started.

    `address` and `key` as in `Client`.  Raises Invalid for an address or key that cannot be one,
    DaemonUnavailable on a system where warmd does not run.
    """

    def __init__(self, address: str | None, autostart: bool | None, key: str | None = None) -> None:
        _require_linux()
        given = address if address is not None else os.environ.get("WARMD_HOST") or None
        if given is not None and autostart:
            raise Invalid(
                f"autostart: with an address ({given!r}) a daemon is never started; leave one of them out"
            )
        if given is None and key is not None:
            raise Invalid("key: it is for an address, tcp://HOST:PORT, and none is given")
        try:
            self.run_dir = places.default_run_dir() if given is None else None
            self._place: Place
            if self.run_dir is not None:
                self._place = UnixPlace(places.check_socket_path(places.socket_path(self.run_dir)))
            else:
                self._place = place_of(str(given), key)
        except ValueError as error:
            raise Invalid(str(error)) from None
        self.address = self._place.address
        self.may_start = self.run_dir is not None and autostart is not False

    def connect(self) -> Transport:
        """A connection on which the daemon has said welcome.

        Raises DaemonUnavailable when there is none to be had, NotAllowed when it is another user's.
        """
        transport = self._reached()
        if transport is None and self.may_start and self.run_dir is not None:
            self._start(self.run_dir)
            transport = self._reached()
        if transport is None:
            raise DaemonUnavailable(self._absent())
        # From now on a daemon that is gone was stopped by somebody, or crashed: both are to be seen.
        self.may_start = False
        return transport

    def _absent(self) -> str:
        remedy = (
            "start it there with `warmd start`, or leave out the address to have one started here"
            if self.run_dir is None
            else "start one with `warmd start`"
        )
        return f"there is no daemon at {self.address}: {remedy}"

    def _reached(self) -> Transport | None:
        """A connection; None when there is no daemon."""
        if not self._place.listening():
            return None
        transport = self._place.open()
        try:
            _await_welcome(transport, time.monotonic() + HANDSHAKE_SECONDS, self.address)
        except BaseException as error:
            transport.close()
            # It may have been on its way out.
            if isinstance(error, DaemonUnavailable) and not self._place.listening():
                return None
            raise
        return transport

    def _start(self, run_dir: Path) -> None:
        try:
            places.make_private_dir(run_dir)
            log_path = places.daemon_log_path(run_dir)
            log_path.parent.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(run_dir / "start.lock"):
                if not self._place.listening():
                    self._start_alone(run_dir, log_path)
        except OSError as error:
            if isinstance(error, DaemonUnavailable | NotAllowed):
                raise
            text = f"the daemon cannot be started: {told(error)}; `warmd doctor` says more"
            raise DaemonUnavailable(text) from error

    def _start_alone(self, run_dir: Path, log_path: Path) -> None:
        try:
            start_daemon(["--run-dir", os.fspath(run_dir)], log_path)
        except DaemonUnavailable:
            # Somebody may have been faster by hand, and this one refused to be the second.
            if not self._place.listening():
                raise


def start_daemon(arguments: Sequence[str], log_path: Path) -> None:
    """Start a daemon in the background and return when it is ready.

    Raises DaemonUnavailable with its own words when it is not ready within START_SECONDS.
    """
    ready, ready_end = os.pipe()
    with open(ready, "rb", buffering=0) as reader:
        try:
            with open(log_path, "ab") as log:
                command = [sys.executable, "-m", "warmd", "serve", *arguments, "--ready-fd", str(ready_end)]
                # The shell is gone at once, so that the daemon is no child of this process, which
                # may outlive it and would keep its zombie.
                subprocess.run(
                    ["/bin/sh", "-c", '"$@" &', "sh", *command],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=(ready_end,), start_new_session=True, cwd="/", env=_environment(), check=True,
                )  # fmt: skip
        finally:
            os.close(ready_end)
        await_ready(reader.fileno(), log_path)


def await_ready(descriptor: int, log_path: Path | None) -> None:
    """Wait until a daemon that is starting says so on its pipe.  Raises DaemonUnavailable."""
    said = b""
    until = time.monotonic() + START_SECONDS
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while said != _READY:
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise DaemonUnavailable(
                f"the daemon was started and is not ready after {START_SECONDS:g} s{_see(log_path)}"
            )
        piece = os.read(descriptor, 65536)
        if not piece:
            text = said.decode(errors="replace").strip() or "it ended without a word"
            raise DaemonUnavailable(f"the daemon could not be started: {text}{_see(log_path)}")
        said += piece


def _environment() -> dict[str, str]:
    """Without what marks the processes of a session: a daemon started by an app is to outlive it."""
    return {name: value for name, value in os.environ.items() if name not in WORKERS_VARIABLES}


def _see(log_path: Path | None) -> str:
    return f"; see {log_path}" if log_path else ""


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Of several clients that find no daemon one starts it and the others wait for that."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            lock(descriptor, START_SECONDS)
        except TimeoutError:
            raise DaemonUnavailable(
                f"another process has been starting the daemon for {START_SECONDS:g} s (it holds {path})"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _await_welcome(transport: Transport, until: float, address: str) -> None:
    poll = select.poll()
    poll.register(transport.descriptor, select.POLLIN)
    poll.register(transport.monitor_descriptor, select.POLLIN)
    exchange = transport.exchange
    while True:
        transport.pump()
        if exchange.welcome is not None and exchange.lost is None:
            return
        if exchange.refusal is not None:
            raise exception_from(exchange.refusal)
        if exchange.lost is not None:
            kind = NotAllowed if transport.unknown_key else DaemonUnavailable
            raise kind(f"no connection to the daemon at {address}: {exchange.lost}")
        rest = until - time.monotonic()
        if rest <= 0:
            raise DaemonUnavailable(
                f"the daemon at {address} did not answer within {HANDSHAKE_SECONDS:g} s: it is stopped "
                "or hangs"
            )
        ready = poll.poll(rest * 1000 + 1)
        if any(descriptor == transport.monitor_descriptor for descriptor, _ in ready):
            transport.look_at_monitor()


def _require_linux() -> None:
    missing = [name for name in ("pidfd_open", "eventfd", "memfd_create") if not hasattr(os, name)]
    if sys.platform != "linux" or missing:
        lacks = f": this Python lacks {', '.join('os.' + name for name in missing)}" if missing else ""
        raise DaemonUnavailable(f"warmd runs on Linux only, this is {sys.platform}{lacks}")
