"""What others would use in warmd's place, each in one small file behind one interface.

A peer holds one `Work` (`benchmarks.peers.work`) warm in a process that is not the caller's, and is
used as its own documentation shows.  It stays on this machine: Unix sockets or 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

from benchmarks import processes
from benchmarks.bounds import within

OPEN_SECONDS = 90.0
CALL_SECONDS = 60.0
"""For one call, or a new session with its first answer."""

Kind = Literal["proxy", "pool", "actor", "kernel", "http"]


class Unavailable(Exception):
    """The peer cannot be measured here; the text says why."""


class Peer(ABC):
    """One warm `Work`.  Methods end within `CALL_SECONDS` or raise; what a peer cannot do says why not."""

    pids: frozenset[int] = frozenset()
    """The processes that were started to open it; set by `opened`."""

    name: ClassVar[str]
    kind: ClassVar[Kind]
    no_arrays: ClassVar[str] = ""
    """Why `echo` is not there; empty where it is."""
    no_sessions: ClassVar[str] = ""
    """Why `new_session` is not there."""
    no_pipeline: ClassVar[str] = "its calls are made one after the other"
    """Why `begin` is not there."""

    @abstractmethod
    def open(self) -> None:
        """Start all that it needs.  Raises Unavailable, and ImportError without its package."""

    @abstractmethod
    def call(self, by: int) -> int:
        """`Work.incr`; returns what the count is then."""

    def begin(self, by: int) -> Any:
        """Start `Work.incr`; `result()` of what it returns waits for the end."""
        raise NotImplementedError(self.no_pipeline)

    def echo(self, array: Any) -> Any:
        """A numpy array there and back."""
        raise NotImplementedError(self.no_arrays)

    def new_session(self) -> Callable[[], object]:
        """Another `Work` in a process of its own, until its first answer; returns what ends it."""
        raise NotImplementedError(self.no_sessions)

    @abstractmethod
    def close(self) -> None:
        """End its processes; also after a failed `open`."""


FILES = {
    "manager_proxy": "ManagerProxy",
    "pool_futures": "FuturesPool",
    "pool_loky": "LokyPool",
    "pyro_object": "PyroObject",
    "dask_actor": "DaskActor",
    "jupyter_kernel": "JupyterKernel",
    "http_server": "HttpServer",
    "ray_actor": "RayActor",
}
"""Each peer's file and class."""


@contextlib.contextmanager
def opened(file: str) -> Iterator[Peer]:
    """A peer, open and called once.  Raises Unavailable when it cannot be had here."""
    try:
        peer: Peer = getattr(importlib.import_module(f"benchmarks.peers.{file}"), FILES[file])()
    except ImportError as error:
        raise _missing(error) from error
    before = processes.tree(os.getpid())
    try:
        with within(OPEN_SECONDS, f"the start of {peer.name}"):
            try:
                peer.open()
            except ImportError as error:
                raise _missing(error) from error
            first, second = peer.call(1), peer.call(2)
        if second != first + 2:
            raise Unavailable(f"it does not keep its state: {first}, then {second}")
        peer.pids = frozenset(processes.tree(os.getpid()) - before)
        yield peer
    finally:
        with within(CALL_SECONDS, f"the end of {peer.name}"):
            peer.close()


def _missing(error: ImportError) -> Unavailable:
    return Unavailable(f"{error.name or error} is not installed (pip install '.[bench]')")
