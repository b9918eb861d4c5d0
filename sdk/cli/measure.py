"""The calls of `warmd bench`: new sessions one after another, then many calls to the last of them.

Every call is made as a stream.  Of a function that is no generator that is one value, and costs
what `run` costs; of a generator it shows when the first part came.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from warmd.cli.calls import from_here
from warmd.cli.samples import Crowd, Measured, Sample
from warmd.cli.talk import say
from warmd.protocol.errors import DaemonError, NoSession

if TYPE_CHECKING:
    from warmd.calls import Stream
    from warmd.client import Client

WARM_UP_CALLS = 3
ENDING = "warmd: ending the session; Ctrl-C again to leave without waiting"

Tell = Callable[[str, int, int], None]
"""Is told of each step before it: what, which, of how many."""


def measure(
    client: Client,
    options: Mapping[str, Any],
    *,
    cold: int,
    warm: int,
    under_way: int | None,
    tell: Tell,
) -> Measured:
    """Make the calls.  `options` are those of a call to a new session.

    Ends every session that it opened, however it ends itself.  Raises the WarmdError of a call.
    """
    colds = []
    for number in range(1, cold):
        tell("cold session", number, cold)
        with _opened(client, options) as (_, sample):
            colds.append(sample)
    tell("cold session", cold, cold)
    with _opened(client, options) as (session, sample):
        again = {name: options[name] for name in ("function", "input", "timeout")} | {"session": session}
        for _ in range(WARM_UP_CALLS):
            _called(client, again)
        warms = []
        for number in range(1, warm + 1):
            tell("warm call", number, warm)
            warms.append(_called(client, again))
        crowd = _crowd(client, again, warm, under_way, tell) if under_way else None
    return Measured([*colds, sample], warms, crowd)


@contextlib.contextmanager
def _opened(client: Client, options: Mapping[str, Any]) -> Iterator[tuple[str, Sample]]:
    """A new session and its first call; ends the session."""

    def begin(options: dict[str, Any]) -> tuple[float, Stream]:
        return time.monotonic(), client.stream(options)

    asked, stream = from_here(client, begin, {**options, "session": "new"})
    try:
        whole = _watched(asked, stream)
        timing = stream.timing
        assert timing is not None and stream.session_id is not None
        phases = {name: timing[name] for name in ("queue", "spawn", "imports", "setup")}
        rest = max(0.0, whole.first - sum(phases.values()))
        yield stream.session_id, Sample(**phases, first=rest, total=whole.total, parts=whole.parts)
    except KeyboardInterrupt:
        say(ENDING)
        raise
    finally:
        stream.close()
        if stream.session_id is not None:
            # Gone already, with its daemon or alone: that is all that was wanted.
            with contextlib.suppress(NoSession, DaemonError):
                client.sessions.end(stream.session_id)


def _called(client: Client, options: Mapping[str, Any]) -> Sample:
    asked = time.monotonic()
    with client.stream(options) as stream:
        return _watched(asked, stream)


def _watched(asked: float, stream: Stream) -> Sample:
    """Read a call to its end; `first` is all that its caller waited."""
    first, parts = None, 0
    for _ in stream:
        first = first or time.monotonic()
        parts += 1
    ended = time.monotonic()
    return Sample(first=(first or ended) - asked, total=ended - asked, parts=parts)


def _crowd(client: Client, options: Mapping[str, Any], calls: int, under_way: int, tell: Tell) -> Crowd:
    waiting: deque[Any] = deque()
    begun = time.monotonic()
    for number in range(1, calls + 1):
        if len(waiting) == under_way:
            waiting.popleft().result()
        tell(f"{under_way} under way, call", number, calls)
        waiting.append(client.submit(options))
    while waiting:
        waiting.popleft().result()
    return Crowd(under_way, calls, time.monotonic() - begun)
