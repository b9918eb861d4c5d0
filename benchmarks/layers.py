"""What warmd's own layers do for one warm call, each by itself: no socket, no other process, no waiting.

The real functions run on the real messages, one after the other as in a call, in this process.  The
rest of what a process spends is sockets, system calls, libzmq and the code between the layers.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.peers.work import Work
from warmd import plan
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.broker import Broker
from warmd.daemon.settings import Settings
from warmd.daemon.worker.load import App
from warmd.protocol import messages, values, work
from warmd.protocol.stream import marked_off
from warmd.protocol.wire import FROM_CLIENT, FROM_DAEMON, FROM_WORKER, TO_WORKER

CLIENT = messages.ClientId(b"\0\0\0\0\1")
RUN_SECONDS = 1e-6


class Layers:
    """A rule book with one ready session, and the worker's half of it."""

    def __init__(self) -> None:
        self.times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        """By process and layer, in the order of a call."""
        # Without templates a start is one process: it is over before anything is timed.
        self._broker = Broker(replace(Settings().limits(), max_templates=0))
        self._app = App(Work, "work")
        self._app.make()
        self._now = 0.0
        self._worker, self._session = self._ready_session()

    def _ready_session(self) -> tuple[work.WorkerId, str]:
        call = plan.opening({"app": "work"})
        (sought,) = _of(self._handle(ev.CallArrived(CLIENT, call, "0" * 32)), fx.LookUp)
        spec = work.AppSpec("work", "work:Work")
        (spawn,) = _of(self._handle(ev.AppFound(sought.session, spec)), fx.Spawn)
        self._handle(ev.WorkerSpawned(spawn.worker, 1))
        self._handle(ev.WorkerSaid(spawn.worker, work.Ready(list(self._app.functions), 0.0, 0.0, False)))
        return spawn.worker, str(sought.session)

    def _handle(self, event: ev.Event) -> list[fx.Effect]:
        self._now += 1e-4
        return self._broker.handle(event, self._now)

    def _timed(self, process: str, layer: str, step: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.perf_counter()
        done = step(*arguments)
        self.times[process, layer].append(time.perf_counter() - begun)
        return done

    def call(self) -> None:
        """One call through all layers."""
        timed = self._timed
        options = {"app": "work", "function": "incr", "input": {"by": 1}, "session": self._session}
        call = timed(
            "client", "options checked, input packed", lambda: plan.call(plan.options(None, options))
        )
        frames = timed("client", "request packed", FROM_CLIENT.pack, call)
        call = timed("daemon", "request unpacked and checked", FROM_CLIENT.unpack, frames)
        effects = timed("daemon", "rule book: call arrived", self._handle, ev.CallArrived(CLIENT, call, ""))
        (tell,) = _of(effects, fx.Tell)
        frames = TO_WORKER.pack(tell.message)
        timed("daemon", "packed for the worker", lambda: marked_off(TO_WORKER.pack(tell.message)))
        invoke = timed("worker", "unpacked", TO_WORKER.unpack, frames)
        returned = work.Returned(invoke.ordinal, RUN_SECONDS, 0, self._worked(invoke))
        frames = FROM_WORKER.pack(returned)
        timed("worker", "answer packed", lambda: marked_off(FROM_WORKER.pack(returned)))
        said = timed("daemon", "answer unpacked and checked", FROM_WORKER.unpack, frames)
        effects = timed("daemon", "rule book: returned", self._handle, ev.WorkerSaid(self._worker, said))
        (result,) = (sent.message for sent in _of(effects, fx.Send) if type(sent.message) is messages.Result)
        frames = timed("daemon", "packed for the client", FROM_DAEMON.pack, result)
        result = timed("client", "answer unpacked and checked", FROM_DAEMON.unpack, frames)
        timed("client", "output unpacked", values.unpack, result.value)

    def _worked(self, invoke: work.Invoke) -> bytes:
        planned = self._app.plan(invoke.function)
        input = self._timed("worker", "input unpacked", values.unpack, invoke.input)
        args, kwargs = self._timed("worker", "arguments found", planned.arguments, input)
        output = self._timed("worker", "the function", lambda: planned.function(*args, **kwargs))
        return self._timed("worker", "output packed", values.pack_apart, output)  # type: ignore[no-any-return]


def microseconds(calls: int) -> dict[tuple[str, str], float]:
    """The median of each layer, by process and layer."""
    layers = Layers()
    for _ in range(calls):
        layers.call()
    return {key: statistics.median(times) * 1e6 for key, times in layers.times.items()}


def _of(effects: list[fx.Effect], kind: type) -> list[Any]:
    return [effect for effect in effects if type(effect) is kind]
