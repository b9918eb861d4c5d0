"""Daemons of a test's own, as `warmd serve` starts them: in its directory, with its faults around them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import warmd
from tests.faults.watch import PATIENCE_SECONDS, until


class Daemon:
    """One `warmd serve`; may also be one that refuses to."""

    def __init__(
        self,
        run_dir: Path,
        *flags: str,
        environ: Mapping[str, str] | None = None,
        before_exec: Callable[[], None] | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.process = subprocess.Popen(
            [sys.executable, "-m", "warmd", "serve", "--run-dir", str(run_dir), *flags],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environ or {})},
            preexec_fn=before_exec,
        )
        self.log = ""

    @property
    def address(self) -> str:
        return str(self.run_dir / "warmd.sock")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code; what it said is in `log` then."""
        self.log += self.process.communicate(timeout=seconds)[1]
        return self.process.returncode


@contextlib.contextmanager
def serving(
    run_dir: Path,
    *flags: str,
    environ: Mapping[str, str] | None = None,
    before_exec: Callable[[], None] | None = None,
) -> Iterator[tuple[Daemon, warmd.Client]]:
    """A daemon that serves, and a connected client of it; it is ended with the block."""
    daemon = Daemon(run_dir, *flags, environ=environ, before_exec=before_exec)
    try:
        with warmd.Client(daemon.address) as client:
            until(lambda: answers(client) or daemon.process.poll() is not None)
            assert daemon.process.poll() is None, daemon.wait() or daemon.log
            yield daemon, client
    finally:
        if daemon.process.poll() is None:
            daemon.signal(signal.SIGTERM)
            daemon.signal(signal.SIGTERM)
        if daemon.process.stderr and not daemon.process.stderr.closed:
            daemon.wait()


def answers(client: warmd.Client) -> bool:
    """Whether the daemon is there."""
    with contextlib.suppress(warmd.DaemonUnavailable):
        client.status()
        return True
    return False
