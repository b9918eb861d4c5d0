"""What a call gives back, and what is known about a session: plain objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from warmd.protocol.errors import DaemonFailed, exception_from
from warmd.protocol.messages import NOTHING
from warmd.protocol.pending import Pending
from warmd.protocol.record import record
from warmd.protocol.values import unpack


class Items:
    """Attributes that can be had as items too: `r.output` is `r["output"]`, `dict(r)` is all."""

    __slots__ = ()

    def keys(self) -> Iterator[str]:
        return (field.name for field in fields(self))  # type: ignore[arg-type]

    def __getitem__(self, key: str) -> Any:
        if key in self.keys():
            return getattr(self, key)
        raise KeyError(f"{key!r} is none of {', '.join(self.keys())}")


@record
class Timing(Items):
    """Where the time of a call went, in seconds."""

    cold: bool
    """The call waited for its session to start."""
    queue: float
    """From the daemon's receipt to the start of the process or of the function, whichever waited."""
    spawn: float
    imports: float
    setup: float
    run: float
    """In the function itself."""
    total: float
    """As the client saw it, from sending to the answer; of a detached call that it attached to later,
    at least all of the above."""


@record
class Result(Items):
    """The good end of a call."""

    output: Any
    """What the function returned; of a generator the last value it yielded."""
    session_id: str | None
    """None for a call to the shared pool."""
    timing: Timing
    call_id: str


class Info(dict[str, Any]):
    """What is known about a session; keys are attributes too.

    id app name labels state created last_call ended calls queued idle_timeout expires_in held_for lives_for
    pid stuck memory gpu reason.  `created`, `last_call` and `ended` are Unix times, durations are seconds,
    memory is bytes, `stuck` are pids that cannot be killed.  `gpu` is None, or a dict of what it has on GPUs:
    memory (as measured), reserved, parked (in host memory), gpus (bytes by UUID), kept (why it is not
    parked), moves, park_seconds, unpark_seconds, waits_seconds (for room).
    """

    __slots__ = ()

    def __init__(self, told: object = {}, /, **more: Any) -> None:
        super().__init__(_as_map(told), **more)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"a session's info has no {name!r}; it has: {', '.join(self)}") from None


def outcome(pending: Pending) -> Result:
    """The result of a call that is done.  Raises the WarmdError that it ended with."""
    raise_problem(pending)
    return Result(
        output=_unpacked(pending, pending.result.value if pending.result else NOTHING),
        session_id=pending.session,
        timing=timing(pending),
        call_id=pending.call.hex(),
    )


def answer(pending: Pending) -> Any:
    """The value of an administrative request that is done.  Raises its WarmdError."""
    raise_problem(pending)
    return _unpacked(pending, pending.result.value if pending.result else NOTHING)


def infos(told: object) -> list[Info]:
    """What is known about several.  Raises DaemonFailed for an answer that is no array of maps."""
    if not isinstance(told, list):
        raise _tells_nothing(told)
    return [Info(info) for info in told]


def description(told: object) -> dict[str, Any]:
    """What an app says of itself, and where it is found.  Raises DaemonFailed for an answer without it."""
    whole = _as_map(told)
    return {**_as_map(whole.get("described")), "found": _as_map(whole.get("found"))}


def _as_map(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _tells_nothing(value)
    return value


def _tells_nothing(value: object) -> DaemonFailed:
    return DaemonFailed(f"the daemon answered with {type(value).__name__}, which tells nothing", ran="yes")


def raise_problem(pending: Pending) -> None:
    if pending.problem is not None:
        raise exception_from(pending.problem, session=pending.session, call=pending.call.hex())


def timing(pending: Pending) -> Timing:
    """The timing of a call that is done."""
    told = pending.result.timing if pending.result else None
    total = pending.ended - pending.begun
    if told is None:
        return Timing(False, 0.0, 0.0, 0.0, 0.0, 0.0, total)
    return Timing(*told, max(total, told.queue + told.spawn + told.imports + told.setup + told.run))


def _unpacked(pending: Pending, body: Any) -> Any:
    return unpacked(pending, body) if len(body) else None


def unpacked(pending: Pending, body: Any) -> Any:
    """A value that has come of the call.  Raises DaemonFailed for what is none."""
    try:
        return unpack(body)
    except (ValueError, OSError, MemoryError) as error:
        why = str(error)
        if isinstance(error, MemoryError):
            why = "this process may not have so much memory (`ulimit -v`, `ulimit -d`); have it come in parts"
        raise DaemonFailed(
            f"the output of {len(body)} bytes cannot be read: {why}",
            ran="yes",
            session=pending.session,
            call=pending.call.hex(),
        ) from error
