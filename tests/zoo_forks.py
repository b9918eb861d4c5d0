"""Apps of the zoo that leave processes behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import warmd.app

context = warmd.app.context
FOREVER = 3600.0


def note(path: str, line: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


class Forks:
    """Leaves processes behind, and returns twice."""

    def return_in_child(self, path: str) -> int:
        pid = os.fork()
        if pid == 0:
            note(path, f"child {os.getpid()}")
            return -1
        os.waitpid(pid, 0)
        return os.getpid()

    def exit_in_child(self, code: int = 4) -> int:
        pid = os.fork()
        if pid == 0:
            sys.exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def raise_in_child(self) -> int:
        pid = os.fork()
        if pid == 0:
            raise ValueError("in the child")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def yield_in_child(self) -> Iterator[int]:
        pid = os.fork()
        yield 1
        if pid:
            os.waitpid(pid, 0)
        yield 2

    def hold_fds(self) -> int:
        """A child that lives on with all descriptors; its pid is returned."""
        pid = os.fork()
        if pid == 0:
            time.sleep(FOREVER)
            os._exit(0)
        return pid

    def hold_fds_and_die(self) -> None:
        self.hold_fds()
        os.kill(os.getpid(), signal.SIGKILL)

    def daemonize(self) -> int:
        """A double fork with a session of its own; the grandchild's pid is returned."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(write, str(os.getpid()).encode())
                time.sleep(FOREVER)
            os._exit(0)
        os.waitpid(child, 0)
        pid = int(os.read(read, 32))
        os.close(read)
        os.close(write)
        return pid

    def everything(self) -> dict[str, int]:
        """Every kind of process that outlives its maker; their pids by kind."""
        return {
            "daemonized": self.daemonize(),
            "of its own session": self.popen(),
            "with all descriptors": self.hold_fds(),
            "deaf to SIGTERM": self._deaf_child(),
            "child with another environment": _started("env", "-i", "sleep", "3600"),
            "orphan with another environment": _orphan("env", "-i", "sleep", "3600"),
            "grandchild": _grandchild(),
        }

    def lose_token(self) -> int:
        """An orphan in a session of its own with nothing in its environment; its pid."""
        return _orphan("env", "-i", "setsid", "sleep", "3600")

    def swarm(self, n: int = 50) -> int:
        """A child that forks as fast as it can and keeps `n` children alive; its pid."""
        pid = os.fork()
        if pid == 0:
            alive = 0
            while True:
                if alive < n:
                    alive += 1
                    if os.fork() == 0:
                        time.sleep(FOREVER)
                        os._exit(0)
                else:
                    os.wait()
                    alive -= 1
        return pid

    def stubborn(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(FOREVER)

    def _deaf_child(self) -> int:
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            time.sleep(FOREVER)
            os._exit(0)
        return pid

    def popen(self) -> int:
        process = subprocess.Popen(["sleep", "3600"], start_new_session=True)
        process.returncode = 0  # keeps its finalizer quiet
        return process.pid

    def zombie(self) -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        return pid

    def multiprocessing(self) -> Any:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    def spawn(self) -> Any:
        import multiprocessing

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(abs, [-1, -2, -3])

    def default_pool(self) -> Any:
        import multiprocessing

        multiprocessing.set_start_method("fork")
        with multiprocessing.Pool(1) as pool:
            return pool.map(abs, [-1, -2, -3])


def _started(*command: str) -> int:
    process = subprocess.Popen(command)
    process.returncode = 0  # keeps its finalizer quiet
    return process.pid


def _orphan(*command: str) -> int:
    shown = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid)"
    done = subprocess.run([sys.executable, "-c", shown, *command], stdout=subprocess.PIPE, check=True)
    return int(done.stdout)


def _grandchild() -> int:
    shell = subprocess.Popen(["sh", "-c", "sleep 3600 & echo $!; wait"], stdout=subprocess.PIPE)
    shell.returncode = 0
    assert shell.stdout is not None
    return int(shell.stdout.readline())
