"""Warm calls: one after the other, many under way, and from many clients at once."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable
from typing import Any

import warmd
from benchmarks.client_process import running_clients
from benchmarks.figures import Target, call_times, pipelined, rate
from benchmarks.floor import running_floor
from benchmarks.peers import Peer
from benchmarks.pingpong import running_pingpong
from benchmarks.rows import SLICE_SECONDS, Contest, Contestant
from benchmarks.subjects import open_sessions, warmd_counter

FLOOR = "forwarding floor"
CLIENTS = 8
OWN_POOLS = "loky, a pool in each client"
ONE_POOL = f"loky, {CLIENTS} threads of one client"
RIVALS = ("pool", "actor", "http")


class WarmCall(Contest):
    key = "warm-call"
    title = "Warm call, one after the other, p50"
    unit = "us"
    scale = 1e6
    meets_peers = True

    def open(self, stack: contextlib.ExitStack) -> None:
        self.floor = self._timed(FLOOR, stack.enter_context(running_floor()).call)
        self.warmd = self._timed("warmd", stack.enter_context(warmd_counter(1))[1].call)
        self.others = [self._timed("Unix socket ping-pong", stack.enter_context(running_pingpong()))]
        self.rivals: list[str] = []

    def of_peer(self, peer: Peer) -> Contestant:
        if peer.kind in RIVALS:
            self.rivals.append(peer.name)
        return self._timed(peer.name, lambda: peer.call(1))

    def _timed(self, name: str, call: Callable[[], object]) -> Contestant:
        return Contestant(name, lambda: statistics.median(call_times(call, self.effort.calls, SLICE_SECONDS)))

    def targets(self) -> list[Target]:
        ratios = {name: ratio for name in self.rivals if (ratio := self.warmd_to(name)) is not None}
        fastest = max(ratios, key=lambda name: ratios[name], default=None)
        text = "fastest pool, actor or HTTP peer" + (f" ({fastest})" if fastest else "")
        return [
            Target("warm call p50 / forwarding floor", self.to_floor("warmd"), 1.3),
            Target(f"warm call p50 / {text}", ratios[fastest] if fastest else None, 1.0),
        ]


class Pipelined(Contest):
    key = "pipelined"
    title = "Calls to one session with 64 under way"
    unit = "calls/s"
    meets_peers = True

    def open(self, stack: contextlib.ExitStack) -> None:
        self.floor = self._rated(FLOOR, stack.enter_context(running_floor()).pipeline)
        self.warmd = self._rated("warmd", stack.enter_context(warmd_counter(1))[1].pipeline)

    def of_peer(self, peer: Peer) -> Contestant | None:
        if peer.no_pipeline:
            self.missing[peer.name] = peer.no_pipeline
            return None
        return self._rated(peer.name, lambda calls: pipelined(lambda: peer.begin(1), calls))

    def _rated(self, name: str, pipeline: Callable[[int], object]) -> Contestant:
        return Contestant(name, lambda: rate(pipeline, self.effort.pipelined))

    def targets(self) -> list[Target]:
        ratio = self.to_floor("warmd")
        return [Target("pipelined calls/s / forwarding floor", ratio, 0.5, at_most=False)]


class ManyClients(Contest):
    """Each client is a process of its own, and makes one call after the other to what is its own.

    A pool of loky cannot be shared by processes.  So each client has one of its own, with one worker
    and nothing in between; or one process has a pool of 8, which 8 threads call.
    """

    key = "many-clients"
    title = f"{CLIENTS} clients, each with a session of its own"
    unit = "calls/s"

    def open(self, stack: contextlib.ExitStack) -> None:
        floor = stack.enter_context(running_floor(workers=CLIENTS))
        client = stack.enter_context(warmd.local())
        sessions = open_sessions(client, CLIENTS)
        self.floor = self._clients(stack, FLOOR, [["floor", floor.address]] * CLIENTS)
        self.warmd = self._clients(stack, "warmd", [["warmd", client.address, one] for one in sessions])
        self.others = [
            self._clients(stack, OWN_POOLS, [["loky", "1"]] * CLIENTS),
            self._clients(stack, ONE_POOL, [["loky", str(CLIENTS)]]),
        ]

    def _clients(self, stack: contextlib.ExitStack, name: str, arguments: Any) -> Contestant:
        calls = stack.enter_context(running_clients(arguments))
        return Contestant(name, lambda: rate(calls, CLIENTS * self.effort.calls))

    def targets(self) -> list[Target]:
        text = f"calls/s of {CLIENTS} clients"
        floor = self.to_floor("warmd")
        against_loky = [
            Target(f"{text} / {name}", self.warmd_to(name), 5.0, at_most=False)
            for name in (OWN_POOLS, ONE_POOL)
        ]
        return [Target(f"{text} / forwarding floor", floor, 0.6, at_most=False), *against_loky]
