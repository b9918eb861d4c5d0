"""New sessions, until their first answer: of a trivial app, and of apps whose imports take long."""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import warmd
from benchmarks.figures import Target
from benchmarks.forkfloor import running_forkfloor
from benchmarks.peers import Peer, Unavailable
from benchmarks.rows import Contest, Contestant
from benchmarks.subjects import IDLE_SECONDS, WORK_APP

HEAVY = Path(__file__).parents[1] / "heavy"
SPAWN_SECONDS = 120.0


class NewSession(Contest):
    key = "new-session"
    title = "A new session of a trivial app, until its first answer"
    unit = "ms"
    scale = 1e3
    slow = True
    meets_peers = True

    def open(self, stack: contextlib.ExitStack) -> None:
        fork = stack.enter_context(running_forkfloor())
        client = stack.enter_context(warmd.local())
        self.floor = started("os.fork + first answer", _whole(fork))
        self.warmd = started("warmd", lambda: _session(client, WORK_APP, "incr"))
        self.others = [started("python -c pass", _whole(lambda: _run("-c", "pass")))]

    def of_peer(self, peer: Peer) -> Contestant | None:
        if peer.no_sessions:
            self.missing[peer.name] = peer.no_sessions
            return None
        return started(peer.name, peer.new_session)

    def targets(self) -> list[Target]:
        kernel = self.warmd_to("Jupyter kernel") if "Jupyter kernel" in self.blocks else None
        milliseconds = statistics.median(self.blocks[""]["warmd"]) * 1e3
        gain = 1 / kernel if kernel else None
        return [
            Target("new session / os.fork + first answer", self.to_floor("warmd"), 3.0),
            Target("new session", milliseconds, 15.0, unit="ms"),
            Target("new Jupyter kernel / new session", gain, 20.0, at_most=False),
        ]


class HeavyStart(Contest):
    """The floor is the app's spawn at its cheapest: the same file run by a bare interpreter."""

    unit = "ms"
    scale = 1e3
    slow = True
    file: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    gain: ClassVar[float]

    def open(self, stack: contextlib.ExitStack) -> None:
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                raise Unavailable(f"{module} is not installed")
        path = str(HEAVY / self.file)
        client = stack.enter_context(warmd.local())
        self.floor = started("its spawn", _whole(lambda: _run(path)))
        self.warmd = started("warmd", lambda: _session(client, f"{path}:App", "answer"))

    def targets(self) -> list[Target]:
        ratio = self.warmd_to("its spawn")
        text = f"spawn of an app with {' + '.join(self.modules)} / new session"
        return [Target(text, 1 / ratio if ratio else None, self.gain, at_most=False)]


class FramesStart(HeavyStart):
    key = "new-session-polars"
    title = "A new session of an app that imports numpy and polars"
    file = "frames.py"
    modules = ("numpy", "polars")
    gain = 10.0


class TorchStart(HeavyStart):
    key = "new-session-torch"
    title = "A new session of an app that imports torch"
    file = "tensors.py"
    modules = ("torch",)
    gain = 25.0


def started(name: str, start: Callable[[], Callable[[], object]]) -> Contestant:
    """A start is timed; what it returns ends it, and is not."""

    def sample() -> float:
        begun = time.perf_counter()
        end = start()
        took = time.perf_counter() - begun
        end()
        return took

    return Contestant(name, sample)


def _session(client: Any, app: str, function: str) -> Callable[[], object]:
    id = client.run(app=app, function=function, session="new", session_timeout=IDLE_SECONDS).session_id
    return lambda: client.sessions.end(id)


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=SPAWN_SECONDS)


def _whole(act: Callable[[], object]) -> Callable[[], Callable[[], object]]:
    """As a start, what has ended by itself when it returns."""

    def start() -> Callable[[], object]:
        act()
        return lambda: None

    return start
