"""What an app's functions take and give: asked of a process that has imported the app and runs no `setup`.

    describe() ---> starts ---> imports ---> is asked ---> answers ---> kept for a while ---> killed
                                   ^             |
                                   +-- Outdated -+   its files have changed: another process

It is a template that nobody is forked from; one that is only kept makes way for another app.  No call waits
for it and no session comes of it, so the rule book has no say: such processes have numbers below 0, and what
the fleet tells of those comes here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.exits import described
from warmd.daemon.core.stopping import with_output
from warmd.daemon.infos import packed_description
from warmd.daemon.loop import Timer
from warmd.protocol.errors import Problem
from warmd.protocol.messages import Body, SessionId
from warmd.protocol.work import AppSpec, Describe, Described, Outdated, Prepared, StartFailed, WorkerId

log = logging.getLogger("warmd.describing")

NO_DETAILS: Mapping[str, Any] = {}
MAX_PROCESSES = 4
MAX_DYING = 16
"""Those that are killed take their time, and perhaps cannot be killed."""
MAX_ASKING = 256
MAX_ATTEMPTS = 5
"""For an app whose files change while it is imported."""
MAX_BYTES = 2**20
KEPT_SECONDS = 30.0
"""After an answer, for the next question."""

Done: TypeAlias = Callable[[Body | Problem], object]


class Starts(Protocol):
    """What it needs of the fleet (`fleet.Fleet`)."""

    def prepare(self, effect: fx.Prepare) -> None: ...
    def kill(self, effect: fx.Kill) -> None: ...
    def forget(self, effect: fx.Forget) -> None: ...
    @property
    def tell(self) -> Callable[[WorkerId, Describe], object]: ...


class Timers(Protocol):
    def call_in(self, seconds: float, callback: Callable[[], object]) -> Timer: ...


@dataclass(eq=False)
class Process:
    id: WorkerId
    spec: AppSpec
    timer: Timer
    """When it has taken too long, or was kept long enough."""
    attempt: int = 1
    asking: list[Done] = field(default_factory=list)
    imported: bool = False
    has_process: bool = False
    unwanted: bool = False
    """It is killed as soon as there is a process to kill."""

    @property
    def log(self) -> SessionId:
        return SessionId(f"desc_{-self.id:08x}".ljust(37, "0"))


class Describer:
    """Describes apps; used by the loop's thread alone."""

    def __init__(
        self,
        fleet: Starts,
        loop: Timers,
        start_seconds: float,
        pack: Callable[[AppSpec, Body], Body] = packed_description,
    ) -> None:
        self._pack = pack
        self._fleet = fleet
        self._loop = loop
        self._start_seconds = start_seconds
        self._processes: dict[WorkerId, Process] = {}
        self._last = 0

    def describe(self, spec: AppSpec, done: Done) -> None:
        """Have `done` called with the packed description, or with why there is none; at once or later."""
        self._describe(spec, done, 1)

    def _describe(self, spec: AppSpec, done: Done, attempt: int) -> None:
        alike = [one for one in self._wanted() if one.spec == spec]
        if not alike and not self._has_place():
            text = f"{MAX_PROCESSES} apps are being described already: try again in a moment"
            done(Problem("QUEUE_FULL", text, details={"limit": MAX_PROCESSES}))
            return
        if not alike:
            self._start(spec, done, attempt)
            return
        process = alike[0]
        if len(process.asking) >= MAX_ASKING:
            text = f"{MAX_ASKING} wait for the description of this app already: try again in a moment"
            done(Problem("QUEUE_FULL", text, details={"limit": MAX_ASKING}))
            return
        process.asking.append(done)
        if process.imported and len(process.asking) == 1:
            self._ask(process)

    def _wanted(self) -> list[Process]:
        return [one for one in self._processes.values() if not one.unwanted]

    def _has_place(self) -> bool:
        """Whether there is one for another process, if need be that of the one that is kept longest."""
        wanted = self._wanted()
        if len(self._processes) - len(wanted) >= MAX_DYING:
            return False
        if len(wanted) < MAX_PROCESSES:
            return True
        kept = [one for one in wanted if one.imported and not one.asking]
        if kept:
            self._end(kept[0], "")
        return bool(kept)

    def told(self, event: ev.AboutWorker) -> None:
        """Something has happened to one of its processes."""
        process = self._processes.get(event.worker)
        if process is None:
            return
        match event:
            case ev.WorkerSpawned():
                process.has_process = True
                self._kill_if_unwanted(process)
            case ev.SpawnFailed(message=message):
                self._fail(process, f"the process could not be started: {message}")
                self._forget(process)
            case ev.WorkerSaid(message=message):
                self._said(process, message)
            case ev.LinkLost(message=message):
                self._end(process, f"its process {message}")
            case ev.WorkerExited():
                how, details = described(event)
                self._end(process, how, details)
            case ev.TreeGone():
                self._forget(process)

    def _said(self, process: Process, message: ev.Word) -> None:
        match message:
            case Prepared():
                process.imported = True
                self._ask(process)
            case Described(size=size) if size > MAX_BYTES:
                self._end(process, f"what it says of itself has {size} bytes, the most are {MAX_BYTES}")
            case Described(value=value):
                process.attempt = 1
                self._described(process, value)
            case Outdated() if process.attempt >= MAX_ATTEMPTS:
                self._end(process, f"its files have changed {MAX_ATTEMPTS} times while it was imported")
            case Outdated():
                asking, process.asking = process.asking, []
                self._end(process, "")
                for done in asking:
                    self._describe(process.spec, done, process.attempt + 1)
            case StartFailed(type=type, message=text, traceback=traceback):
                details = {"type": type, "traceback": traceback}
                self._end(process, f"importing the app failed: {type}: {text}", details)
            case _:
                self._end(process, "its process spoke nonsense")

    def _described(self, process: Process, value: Body) -> None:
        try:
            packed = self._pack(process.spec, value)
        except Exception as error:  # whatever it is, somebody waits
            log.exception("the description of %s could not be packed", process.spec.name)
            self._end(process, f"what it says of itself cannot be told: {error!r:.300}")
            return
        self._set_timer(process, KEPT_SECONDS, lambda: self._end(process, ""))
        self._answer(process, packed)

    def _start(self, spec: AppSpec, done: Done, attempt: int) -> None:
        self._last -= 1
        id = WorkerId(self._last)
        seconds = spec.asks.start_seconds or self._start_seconds
        text = f"its import took longer than start_timeout ({seconds:g} s)"
        timer = self._loop.call_in(seconds, lambda: self._end(process, text))
        process = self._processes[id] = Process(id, spec, timer, attempt, [done])
        try:
            self._fleet.prepare(fx.Prepare(id, process.log, spec, {}, b""))
        except Exception as error:  # whatever it is, somebody waits
            log.exception("the process that is to describe %s could not be ordered", spec.name)
            failed = ev.SpawnFailed(id, f"{error!r:.300}")
            self._loop.call_in(0.0, lambda: self.told(failed))

    def _ask(self, process: Process) -> None:
        if not process.asking:
            return
        seconds = self._start_seconds
        text = f"it was not described within {seconds:g} s"
        self._set_timer(process, seconds, lambda: self._end(process, text))
        self._fleet.tell(process.id, Describe(MAX_BYTES))

    def _set_timer(self, process: Process, seconds: float, callback: Callable[[], object]) -> None:
        process.timer.cancel()
        process.timer = self._loop.call_in(seconds, callback)

    def _answer(self, process: Process, answer: Body | Problem) -> None:
        asking, process.asking = process.asking, []
        for done in asking:
            done(answer)

    def _fail(self, process: Process, why: str, details: Mapping[str, Any] = NO_DETAILS) -> None:
        text = with_output(f"app {process.spec.name!r} could not be described: {why}", details)
        self._answer(process, Problem("START_FAILED", text, details=details))

    def _end(self, process: Process, why: str, details: Mapping[str, Any] = NO_DETAILS) -> None:
        """Nothing more is to be had of it; who still asks is told why."""
        process.unwanted = True
        process.timer.cancel()
        self._fail(process, why, details)
        self._kill_if_unwanted(process)

    def _kill_if_unwanted(self, process: Process) -> None:
        if process.unwanted and process.has_process:
            self._fleet.kill(fx.Kill(process.id))

    def _forget(self, process: Process) -> None:
        process.timer.cancel()
        del self._processes[process.id]
        self._fleet.forget(fx.Forget(process.id, process.log))
