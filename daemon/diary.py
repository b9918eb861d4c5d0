"""What the daemon's own log tells of its sessions.

It hangs on the broker from outside: it sees each event and what was ordered, and changes nothing.
Calls are not told of, so a warm call pays for two look-ups here.  What is remembered for `why` hangs
here too (`story`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.broker import Broker
from warmd.daemon.core.views import SessionView
from warmd.daemon.story import Story
from warmd.protocol import gpus, work
from warmd.protocol.errors import shorten
from warmd.protocol.work import WorkerId

log = logging.getLogger("warmd.sessions")

MAX_REASON_BYTES = 300
SHOWN_DIGITS = 13
"""`sess_` and 8 digits; listings show the same."""


class ToldBroker(Broker):
    """A broker whose decisions about sessions are logged, and whose `story` is kept."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.story = Story()
        self.turned: Callable[[], object] | None = None
        """Called after each event, for who tells of what has changed."""

    def handle(self, event: ev.Event, now: float) -> list[fx.Effect]:
        effects = super().handle(event, now)
        try:
            self.story.saw(event, effects, now)
            self._tell(event, effects)
        except Exception:
            # What has been decided holds, whatever becomes of the telling.
            log.exception("%s could not be told of", type(event).__name__)
        if self.turned is not None:
            self.turned()
        return effects

    def _tell(self, event: ev.Event, effects: Sequence[fx.Effect]) -> None:
        kind: type = type(event)
        if kind is ev.WorkerSaid:
            kind = type(event.message)  # type: ignore[union-attr]
        tell = _TELLERS.get(kind)
        if tell is not None:
            tell(self, event, effects)

    def settle_left(self) -> None:
        """Have the story told of detached calls that have ended without their callers."""
        keep = self._book.keep
        for id in [id for id in self.story.left if id not in self._book.jobs]:
            self.story.left.discard(id)
            kept = keep.calls.get(id)
            if kept is not None and kept.final is not None:
                self.story.ended_alone(kept.final, kept.ended)
            else:
                self.story.lost(id, self._book.now)

    def began_to_yield(self, worker: WorkerId) -> None:
        session = self._book.workers.get(worker)
        if session is not None and session.running is not None:
            self.story.yielded(session.running.id, self._book.now)

    def of_worker(self, worker: WorkerId) -> SessionView | None:
        """The worker's session; of a template the first of those that wait for it."""
        session = self._book.workers.get(worker)
        if session is None:
            template = self._book.template_workers.get(worker)
            session = template.waiting[0] if template is not None and template.waiting else None
        return None if session is None else self._book.view(session)


def _spawned(broker: ToldBroker, event: ev.WorkerSpawned, _effects: Sequence[fx.Effect]) -> None:
    view = broker.of_worker(event.worker)
    text = "starting" if view is not None and view.pid is not None else "its app is being imported"
    _about(view, logging.INFO, text, event.pid)


def _ready(broker: ToldBroker, event: ev.WorkerSaid, _effects: Sequence[fx.Effect]) -> None:
    said = event.message
    if isinstance(said, work.Ready):
        text = f"ready: imports {said.imports_seconds:.3f} s, setup {said.setup_seconds:.3f} s"
        _about(broker.of_worker(event.worker), logging.INFO, text)


def _failed(broker: ToldBroker, event: ev.WorkerSaid, _effects: Sequence[fx.Effect]) -> None:
    said = event.message
    if isinstance(said, work.StartFailed):
        text = f"did not start: {said.phase} raised {said.type}: {said.message}"
        _about(broker.of_worker(event.worker), logging.WARNING, text)


def _exited(broker: ToldBroker, event: ev.WorkerExited, _effects: Sequence[fx.Effect]) -> None:
    how = f"signal {event.signal}" if event.signal else f"exit code {event.exit_code}"
    level = logging.INFO if event.exit_code == 0 else logging.WARNING
    _about(broker.of_worker(event.worker), level, f"its process ended: {how}")


def _lost(broker: ToldBroker, event: ev.LinkLost, _effects: Sequence[fx.Effect]) -> None:
    _about(broker.of_worker(event.worker), logging.WARNING, f"its link was lost: {event.message}")


def _gone(broker: ToldBroker, event: ev.TreeGone, effects: Sequence[fx.Effect]) -> None:
    if event.stuck:
        pids = ", ".join(map(str, event.stuck))
        _about(broker.of_worker(event.worker), logging.ERROR, f"cannot be killed: stuck pids {pids}")
    for effect in effects:
        if type(effect) is fx.Forget:
            view = broker.view(effect.session)
            if view is not None:
                _about(view, logging.INFO, f"{view.state}: {view.reason}")


def _left(broker: ToldBroker, _event: ev.ClientGone, _effects: Sequence[fx.Effect]) -> None:
    broker.settle_left()  # else those of many callers that came and went would gather


def _yielded(broker: ToldBroker, event: ev.WorkerSaid, _effects: Sequence[fx.Effect]) -> None:
    said = event.message
    if isinstance(said, work.Yielded | ev.YieldedMany) and said.number == 0:
        broker.began_to_yield(event.worker)


def _moved_out(broker: ToldBroker, event: Any, _effects: Sequence[fx.Effect]) -> None:
    _about(broker.of_worker(event.worker), logging.INFO, "its GPU memory is in host memory")


def _moved_back(broker: ToldBroker, event: Any, _effects: Sequence[fx.Effect]) -> None:
    view = broker.of_worker(event.worker)
    seconds = view.gpu.unpark_seconds if view is not None and view.gpu is not None else 0.0
    _about(view, logging.INFO, f"its GPU memory is back, after {seconds:.3f} s")


def _not_moved(broker: ToldBroker, event: Any, _effects: Sequence[fx.Effect]) -> None:
    said: Any = event.message if isinstance(event, ev.WorkerSaid) else event
    _about(broker.of_worker(event.worker), logging.WARNING, f"its GPU memory was not moved: {said.message}")


def _draining(_broker: ToldBroker, event: ev.DrainArrived, _effects: Sequence[fx.Effect]) -> None:
    log.info("stopping: running calls have %g s", event.drain_seconds)


def _about(view: SessionView | None, level: int, text: str, pid: int | None = None) -> None:
    if view is not None:
        extra = {"session": view.id[:SHOWN_DIGITS], "app": view.app, "pid": pid or view.pid}
        log.log(level, "%s", shorten(text, MAX_REASON_BYTES), extra=extra)


_TELLERS: Mapping[type, Callable[[ToldBroker, Any, Sequence[fx.Effect]], None]] = {
    ev.WorkerSpawned: _spawned,
    work.Ready: _ready,
    work.StartFailed: _failed,
    work.Yielded: _yielded,
    ev.YieldedMany: _yielded,
    gpus.Offloaded: _moved_out,
    ev.Checkpointed: _moved_out,
    gpus.Unparked: _moved_back,
    ev.Restored: _moved_back,
    gpus.KeepsMemory: _not_moved,
    gpus.ParkFailed: _not_moved,
    ev.MoveFailed: _not_moved,
    ev.WorkerExited: _exited,
    ev.LinkLost: _lost,
    ev.TreeGone: _gone,
    ev.DrainArrived: _draining,
    ev.ClientGone: _left,
}
