"""Process trees: whatever an app leaves behind is found, ended and reaped, and nothing else is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from warmd.daemon import tree
from warmd.daemon.launch import TOKEN_VARIABLE, Launcher
from warmd.daemon.processes import Process, kill, look_at
from warmd.daemon.tree import Sweeper, become_subreaper
from warmd.protocol.work import WorkerId

ONE = WorkerId(1)
PATIENCE_SECONDS = 20
SPROUT = """
import os, subprocess, sys, time
def stay():
    os.write(1, bytes(str(os.getpid()), "ascii") + bytes([10]))
    time.sleep(300)
    os._exit(0)
os.setsid()
if os.fork() == 0:
    stay()                                       # a child
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        stay()                                   # a double fork in a session of its own
    os._exit(0)
say = "os.write(1, bytes(str(os.getpid()), 'ascii') + bytes([10]))"
bare = f"import os, time; os.setsid(); {say}; time.sleep(300)"
subprocess.Popen([sys.executable, "-c", bare], env={})  # a child that has lost the token
os.wait()
stay()
"""


@pytest.fixture
def subreaper() -> Iterator[None]:
    become_subreaper()
    yield
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    launcher = Launcher(lambda *_: None, lambda *_: None)
    yield launcher
    launcher.close()


def await_end(pid: int) -> None:
    """Waits until the process has ended; it may still have to be reaped."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([pidfd], [], [], PATIENCE_SECONDS)[0]
    os.close(pidfd)


class Told:
    """What a sweeper tells, from its thread."""

    def __init__(self) -> None:
        self.trees: dict[int, tuple[int, ...]] = {}
        self._changed = threading.Condition()

    def __call__(self, worker: WorkerId, stuck: tuple[int, ...]) -> None:
        with self._changed:
            self.trees[worker] = stuck
            self._changed.notify_all()

    def wait(self, count: int = 1) -> dict[int, tuple[int, ...]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.trees) >= count, PATIENCE_SECONDS)
            return self.trees


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def sweeper(launcher: Launcher, told: Told) -> Iterator[Sweeper]:
    sweeper = Sweeper(launcher, told)
    yield sweeper
    sweeper.close()


class Sprout:
    """A worker-like process with four members in its tree."""

    def __init__(self, launcher: Launcher, token: str, bare_environment: str = "{}") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SPROUT.replace("env={}", f"env={bare_environment}")],
            env={**os.environ, TOKEN_VARIABLE: token},
            stdout=subprocess.PIPE,
            text=True,
        )
        launcher.known.add(self.process.pid)
        assert self.process.stdout is not None
        self.pids = {int(self.process.stdout.readline()) for _ in range(4)}
        self.process.stdout.close()

    @property
    def pid(self) -> int:
        return self.process.pid


@pytest.mark.usefixtures("subreaper")
def test_a_whole_tree_is_ended_and_reaped(launcher: Launcher, sweeper: Sweeper, told: Told) -> None:
    token = secrets.token_hex(32)
    sprout = Sprout(launcher, token)
    assert sprout.pid in sprout.pids
    sweeper.sweep(ONE, token, sprout.pid)
    assert told.wait() == {ONE: ()}
    # Only the worker itself is left, as a zombie, for whoever waits for its exit.
    assert {pid for pid in sprout.pids if psutil.pid_exists(pid)} == {sprout.pid}
    assert sprout.process.wait(PATIENCE_SECONDS) == -signal.SIGKILL


@pytest.mark.usefixtures("subreaper")
def test_what_a_dead_worker_left_is_found(launcher: Launcher, sweeper: Sweeper, told: Told) -> None:
    token = secrets.token_hex(32)
    # Once its parent is dead, nothing but the token tells whose child a process was.
    sprout = Sprout(launcher, token, "os.environ")
    sprout.process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, sprout.pid, os.WEXITED | os.WNOWAIT)
    sweeper.sweep(ONE, token, sprout.pid)
    assert told.wait() == {ONE: ()}
    assert {pid for pid in sprout.pids if psutil.pid_exists(pid)} == {sprout.pid}
    sprout.process.wait(PATIENCE_SECONDS)


@pytest.mark.usefixtures("subreaper")
def test_trees_that_end_together_do_not_touch_a_third(
    launcher: Launcher, sweeper: Sweeper, told: Told
) -> None:
    tokens = [secrets.token_hex(32) for _ in range(3)]
    sprouts = [Sprout(launcher, token) for token in tokens]
    for number in (0, 1):
        sweeper.sweep(WorkerId(number), tokens[number], sprouts[number].pid)
    assert told.wait(2) == {0: (), 1: ()}
    assert all(look_at(pid) for pid in sprouts[2].pids)
    sweeper.sweep(WorkerId(2), tokens[2], sprouts[2].pid)
    told.wait(3)
    for sprout in sprouts:
        sprout.process.wait(PATIENCE_SECONDS)


def test_an_empty_tree_is_told_at_once(sweeper: Sweeper, told: Told) -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    sweeper.sweep(ONE, secrets.token_hex(32), process.pid)
    assert told.wait() == {ONE: ()}


def test_a_process_that_cannot_be_killed_is_told_as_stuck(
    sweeper: Sweeper, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "SWEEP_SECONDS", 0.3)
    monkeypatch.setattr(tree, "kill", lambda process: os.pidfd_open(process.pid))
    token = secrets.token_hex(32)
    environment = {**os.environ, TOKEN_VARIABLE: token}
    with subprocess.Popen(["sleep", "300"], env=environment, start_new_session=True) as process:
        sweeper.sweep(ONE, token, process.pid)
        assert told.wait() == {ONE: (process.pid,)}
        process.kill()


def test_so_is_one_that_is_always_another_by_the_time_it_is_killed(
    sweeper: Sweeper, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(tree, "SWEEP_SECONDS", 0.3)
    monkeypatch.setattr(tree, "kill", lambda process: looks.append(process.pid))
    token = secrets.token_hex(32)
    environment = {**os.environ, TOKEN_VARIABLE: token}
    with subprocess.Popen(["sleep", "300"], env=environment, start_new_session=True) as process:
        sweeper.sweep(ONE, token, process.pid)
        assert told.wait() == {ONE: (process.pid,)}
        process.kill()
    assert 1 < len(looks) <= 2 + 0.3 / tree.BREATH_SECONDS, "it spins"


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process can open so many, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 16, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(held.pop())
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_without_descriptors_a_tree_is_ended_all_the_same(
    launcher: Launcher, sweeper: Sweeper, told: Told, count: int
) -> None:
    token = secrets.token_hex(32)
    environment = {**os.environ, TOKEN_VARIABLE: token}
    tree = [subprocess.Popen(["sleep", "300"], env=environment, start_new_session=True) for _ in range(5)]
    launcher.known.update(process.pid for process in tree)
    used = time.process_time()
    with descriptors_left(count):
        sweeper.sweep(ONE, token, tree[0].pid)
        assert told.wait() == {ONE: ()}
    used = time.process_time() - used
    assert [process.wait(PATIENCE_SECONDS) for process in tree] == [-signal.SIGKILL] * 5
    assert used < 1, "it spins"


def test_what_cannot_be_looked_at_has_not_ended() -> None:
    with subprocess.Popen(["sleep", "300"]) as process:
        seen = look_at(process.pid)
        assert seen is not None
        with descriptors_left(0), pytest.raises(OSError, match="Too many open files"):
            look_at(process.pid)
        with descriptors_left(1):
            for _ in range(2):  # the pidfd is given back
                with pytest.raises(OSError, match=r"Too many open files.*/proc/"):
                    kill(seen)
        assert process.poll() is None
        process.kill()


@pytest.mark.usefixtures("subreaper")
def test_orphans_are_reaped_but_never_a_process_that_others_wait_for(
    launcher: Launcher, sweeper: Sweeper, told: Told
) -> None:
    orphaning = "import os; os.setsid(); os.fork() or os.fork(); os.write(1, b'%d\\n' % os.getpid())"
    ours = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"])
    worker = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(4)"], start_new_session=True)
    launcher.known.add(worker.pid)
    for process in (ours, worker):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    done = subprocess.run([sys.executable, "-c", orphaning], capture_output=True, text=True, check=True)
    for pid in map(int, done.stdout.split()):
        await_end(pid)
    sweeper.reap_orphans()
    sweeper.sweep(ONE, secrets.token_hex(32), worker.pid)
    told.wait()
    assert not [pid for pid in map(int, done.stdout.split()) if psutil.pid_exists(pid)]
    assert (ours.wait(), worker.wait()) == (3, 4)


def test_a_pid_that_was_given_out_again_is_spared() -> None:
    with subprocess.Popen(["sleep", "300"]) as process:
        seen = look_at(process.pid)
        assert seen is not None
        earlier = Process(seen.pid, seen.parent, seen.session, seen.started - 1, seen.environ)
        assert kill(earlier) is None
        assert process.poll() is None
        pidfd = kill(seen)
        assert pidfd is not None
        os.close(pidfd)
        assert process.wait() == -signal.SIGKILL
