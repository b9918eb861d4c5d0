"""What follows when the daemon itself cannot do something: whoever waits for it would wait in vain."""

from __future__ import annotations

from warmd.daemon.catalog import AppLookupError
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.peers import refusal
from warmd.protocol.errors import Problem


class NoThread(Exception):
    """The system gives the daemon no more threads."""


def problem_of_lookup(error: BaseException, app: str) -> Problem:
    """What is told of an app whose lookup raised."""
    if isinstance(error, AppLookupError):
        return error.problem
    if isinstance(error, NoThread):
        return Problem("START_FAILED", str(error))
    return Problem("INTERNAL", f"app {app!r} could not be looked up: {error!r}")


def consequence(effect: fx.Effect, text: str) -> ev.Event | fx.Send | None:
    """What the rule book, or else a client, is told of an order that was not performed; `text` says why."""
    match effect:
        case fx.Send(client=client, message=message) if call := getattr(message, "id", None):
            return fx.Send(client, refusal(call, Problem("INTERNAL", text, "maybe")))
        case fx.LookUp(session=session):
            return ev.AppMissing(session, Problem("INTERNAL", text))
        case fx.Spawn(worker=worker) | fx.Prepare(worker=worker) | fx.Fork(worker=worker):
            return ev.SpawnFailed(worker, text)
        case fx.Answer(client=client, request=request):
            return fx.Send(client, refusal(request, Problem("INTERNAL", text, "maybe")))
        case fx.Look(number=number):
            return ev.GpusSeen(number, (), text)
        case fx.Checkpoint(worker=worker, move=move) | fx.Restore(worker=worker, move=move):
            return ev.MoveFailed(worker, move, text)
        case fx.CaptureStack(worker=worker, ordinal=ordinal):
            return ev.StackCaptured(worker, ordinal, "")
        case (
            fx.Tell(worker=worker)
            | fx.Withdraw(worker=worker)
            | fx.Interrupt(worker=worker)
            | fx.RequestCancel(worker=worker)
        ):
            return ev.LinkLost(worker, f"cannot be reached: {text}")
    return None
