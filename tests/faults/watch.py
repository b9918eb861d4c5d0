"""What fault tests measure with: bounds of time, undisturbed neighbours, processes by their token."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

import warmd

T = TypeVar("T")

ZOO = Path(__file__).parents[1] / "zoo.py"
AT_ONCE_SECONDS = 1.0
"""Within that time a death is told to whoever it concerns."""
TREE_SECONDS = 5.0
"""Within that time after its worker nothing is left of a process tree."""
AFTER_DEADLINE_SECONDS = 2.0
"""So long after its deadline a call is answered at the latest."""
UNDISTURBED_SECONDS = 0.1
"""No call to another session takes longer because of a fault."""
PATIENCE_SECONDS = 20.0
_TOKEN = re.compile(rb"(?:^|\0)WARMD_WORKER_TOKEN=([0-9a-f]{64})(?:\0|$)")


def zoo(name: str) -> str:
    """The app of that name in the crash zoo."""
    return f"{ZOO}:{name}"


# Time


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes at most that long."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, f"it took {took:.3f} s, not {seconds:g} s"


def open_all(client: warmd.Client) -> None:
    """Open what a client of more than one test has open for good: the check of leaks must not count it."""
    client.status()
    assert client._link is not None
    assert client._link.transport.lane is not None
    client._link.transport.lane.open()


def until(condition: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """Waits for what no event tells of; what it came to."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"it did not come to that within {seconds:g} s"
        time.sleep(0.005)
    return found


def together(work: Callable[[T], object], on: Iterable[T]) -> None:
    """Does the work for all at once, a thread each; what failed is told with what it failed on."""
    items = list(on)

    def one(item: T) -> None:
        try:
            work(item)
        except BaseException as error:
            error.add_note(f"with {item!r:.200}")
            raise

    with ThreadPoolExecutor(len(items)) as pool:
        errors = [error for done in [pool.submit(one, item) for item in items] if (error := done.exception())]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} of {len(items)} failed", errors)


# Calls


def error_of(wait: Callable[[], object]) -> warmd.WarmdError:
    """The error that a call ends with."""
    with pytest.raises(warmd.WarmdError) as caught:
        wait()
    return caught.value


def begun(call: Any) -> Any:
    """The call, once its function runs and has said so by `context.progress`."""

    def is_in() -> bool:
        status = call.status()
        assert status.state != "done", f"the call ended too early: {status}"
        return status.progress is not None

    until(is_in)
    return call


@contextlib.contextmanager
def undisturbed(address: str, bound_seconds: float = UNDISTURBED_SECONDS) -> Iterator[None]:
    """Another session is called all the time by another process (`witness.py`); no call takes longer."""
    command = [sys.executable, str(Path(__file__).with_name("witness.py")), address, zoo("Good")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as witness:
        assert witness.stdin is not None and witness.stdout is not None
        assert witness.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            witness.stdin.close()
            told = witness.stdout.read()
    assert float(told) < bound_seconds, f"a call to another session took {float(told):.3f} s"


# Processes


@contextlib.contextmanager
def successor(run_dir: Path, *flags: str) -> Iterator[warmd.Client]:
    """The next daemon in the run directory of one that was killed, and a client of it."""
    command = [sys.executable, "-m", "warmd", "serve", "--run-dir", str(run_dir), *flags]
    daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        with warmd.Client(str(run_dir / "warmd.sock")) as client:
            until(lambda: _answers(client))
            yield client
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE_SECONDS)


def _answers(client: warmd.Client) -> bool:
    with contextlib.suppress(warmd.DaemonUnavailable):
        client.status()
        return True
    return False


def token_of(pid: int) -> bytes:
    """The token that a worker and all its descendants carry."""
    found = _TOKEN.search(environment(pid))
    assert found, f"process {pid} carries no token"
    return found[1]


def carriers(token: bytes) -> list[int]:
    """The living processes that carry a worker's token."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if (found := _TOKEN.search(environment(pid))) and found[1] == token]


def await_gone(pids: Iterable[int], seconds: float = TREE_SECONDS) -> None:
    """Waits until the processes have ended and somebody has reaped them."""
    end = time.monotonic() + seconds
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                left = max(0.0, end - time.monotonic())
                assert select.select([pidfd], [], [], left)[0], f"process {pid} is there after {seconds:g} s"
            finally:
                os.close(pidfd)
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), max(0.5, end - time.monotonic()))  # type: ignore[misc]


def await_tree_gone(token: bytes, seconds: float = TREE_SECONDS) -> None:
    """Waits until no living process carries the token."""
    until(lambda: not carriers(token), seconds)


def environment(pid: int) -> bytes:
    """Empty for a process that has ended, zombies included."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
