"""The daemon's GPUs: what is on them, and moving a session's memory off and back.

All of it is done by a helper process (`gpu.helper`), which is started when it is first needed and again
after it has died.  What is asked here is answered exactly once, on the loop, whatever becomes of the
helper: each request has a deadline, and what is left of a move whose helper has died, or was killed since
it had not answered in time, is settled by the next one, which asks the driver how things are.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from warmd.daemon.gpu.driver import GpuError as GpuError
from warmd.daemon.gpu.driver import Harm, why_unavailable
from warmd.daemon.gpu.process import HelperProcess, Hung, Starter
from warmd.daemon.gpu.told import Gpu as Gpu
from warmd.daemon.gpu.told import GpuProcess as GpuProcess
from warmd.daemon.gpu.told import Moved as Moved
from warmd.daemon.gpu.told import Settled, result_of
from warmd.daemon.loop import Loop, Timer

log = logging.getLogger("warmd.gpu")

LOOK_SECONDS = 5.0
OPENING_SECONDS = 30.0
"""The same where the helper has answered nothing yet: without persistence mode a driver takes seconds for
each GPU to wake up, and a helper that is killed for that would never come to its end."""
SETTLE_SECONDS = 10.0
"""For the next helper to find out what has become of a move, and to put it right."""
GRACE_SECONDS = 2.0
"""For the helper's own start, beyond what a request is given; and for its end when it was killed."""
MOST_STUCK = 3
"""Helpers that sleep in the driver and cannot be killed, before no more are started."""
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0
LIVED_SECONDS = 60.0
"""A helper that has lived so long has not died of its start."""

Looked = tuple[Gpu, ...]


@dataclass(slots=True, eq=False)
class _Request:
    do: str
    fields: dict[str, Any]
    done: Callable[[Any], object]
    seconds: float
    timer: Timer | None = None
    settles: _Request | None = None
    """The move whose end is not known."""
    cut_off_by: str = ""

    @property
    def is_move(self) -> bool:
        return self.do in ("checkpoint", "restore")

    @property
    def unknown(self) -> Harm:
        """The harm where nobody can tell whether it was done."""
        return "lost" if self.is_move or self.settles else "none"


@dataclass(slots=True, eq=False)
class _Held:
    """A helper, and what it was asked."""

    process: HelperProcess
    since: float
    asked: dict[int, _Request] = field(default_factory=dict)
    has_answered: bool = False
    hangs: bool = False
    """It is to be killed as soon as it moves nothing any more."""
    killed: Timer | None = None
    why: str = ""
    """It was killed."""


class Devices:
    """Used on the loop's thread alone; each `done` is called there, later."""

    def __init__(self, loop: Loop, driver_name: str) -> None:
        self._loop = loop
        self._driver_name = driver_name
        self._arrivals: deque[HelperProcess | str] = deque()
        self._starter = Starter(driver_name, self._arrived)
        self._waiting: deque[_Request] = deque()
        self._held: _Held | None = None
        self._stuck: list[HelperProcess] = []
        self._is_starting = False
        self._ids = 0
        self._deaths = 0
        self._not_before = 0.0
        self._again: Timer | None = None
        self._closed = False

    def available(self) -> str:
        """Why there are no GPUs to look at, as far as that can be told without a helper; else empty."""
        return why_unavailable(self._driver_name)

    def look(self, done: Callable[[Looked | GpuError], object]) -> None:
        """What is on the GPUs, within 5 s, or 30 s where the driver is to be opened first."""
        opened = self._held is not None and self._held.has_answered
        self._ask(_Request("look", {}, done, LOOK_SECONDS if opened else OPENING_SECONDS))

    def checkpoint(
        self, token: str, lock_seconds: float, seconds: float, done: Callable[[Moved | GpuError], object]
    ) -> None:
        """Have the driver move what a worker's tree has on GPUs to host memory.

        The tree must be idle: work of it that lasts longer than `lock_seconds` makes that fail (`busy`).
        An answer comes within `seconds`, or, if the helper dies or hangs, some 15 s later.
        """
        fields = {"token": token, "lock_seconds": lock_seconds}
        self._ask(_Request("checkpoint", fields, done, seconds))

    def restore(self, token: str, seconds: float, done: Callable[[Moved | GpuError], object]) -> None:
        """The way back; also of what is in both places after a move that failed (`mixed`)."""
        self._ask(_Request("restore", {"token": token}, done, seconds))

    def state(self, token: str, done: Callable[[dict[int, str] | GpuError], object]) -> None:
        """How the driver holds each process of the tree that has CUDA."""
        self._ask(_Request("state", {"token": token}, done, LOOK_SECONDS))

    def close(self) -> None:
        """End the helper; what was asked and not answered is answered with an error."""
        self._closed = True
        self._starter.close()
        held, self._held = self._held, None
        left = [*(held.asked.values() if held else ()), *self._waiting]
        if held is not None:
            self._unwatch(held.process)
            held.process.end()
        for arrival in self._arrivals:
            if isinstance(arrival, HelperProcess):
                arrival.end()
        for process in self._stuck:  # these were waited for
            self._loop.unwatch(process.pidfd)
            process.reap()
            process.close()
        self._arrivals.clear()
        self._waiting.clear()
        for request in left:
            self._answer(request, GpuError("unavailable", "the daemon ends", request.unknown))

    # Requests

    def _ask(self, request: _Request) -> None:
        why = "the daemon ends" if self._closed else self.available()
        if why:
            self._loop.post(lambda: request.done(GpuError("unavailable", why)))
            return
        self._wait(request, request.seconds)

    def _wait(self, request: _Request, seconds: float) -> None:
        late = lambda: self._late(request)  # noqa: E731
        request.timer = self._loop.call_in(seconds, late)
        self._waiting.append(request)
        # Not in the caller's turn: a helper that does not read must not answer the caller at once.
        self._loop.post(self._go_on)

    def _go_on(self) -> None:
        """Send what waits, or see to it that there is a helper to send it to."""
        held = self._held
        if self._closed or not self._waiting or self._is_starting:
            return
        if held is None:
            self._start()
            return
        while self._waiting and not held.killed:
            request = self._waiting.popleft()
            self._ids += 1
            held.asked[self._ids] = request
            try:
                held.process.send({"id": self._ids, "do": request.do, **request.fields})
            except Hung as error:
                self._kill(held, str(error))

    def _late(self, request: _Request) -> None:
        """It was not answered in time."""
        held = self._held
        text = f"the GPUs did not answer within {request.seconds:.3g} s"
        if request in self._waiting:
            self._waiting.remove(request)
            harm: Harm = "lost" if request.settles else "none"
            self._answer(request, GpuError("unavailable", f"{text}: the helper is not there", harm))
        elif held is not None and request in held.asked.values():
            if request.is_move or request.settles:
                self._kill(held, f"{text} to {request.do}")
                return
            held.hangs = True
            self._forget(held, request)
            self._answer(request, GpuError("unavailable", f"{text}: the driver hangs"))
            self._end_if_hung(held)

    def _forget(self, held: _Held, request: _Request) -> None:
        for id, one in list(held.asked.items()):
            if one is request:
                del held.asked[id]

    def _answer(self, request: _Request, result: Any) -> None:
        if request.timer is not None:
            request.timer.cancel()
        done = request.done
        if request.settles is not None:
            result = _end_of(request.settles, result, request.cut_off_by)
            done = request.settles.done
        try:
            done(result)
        except Exception:
            log.exception("an answer about GPUs could not be used")

    # The helper

    def _start(self) -> None:
        if len(self._stuck) >= MOST_STUCK:
            text = f"{MOST_STUCK} GPU helpers hang in the driver and cannot be ended"
            self._refuse(f"{text}: restart the machine")
            return
        self._is_starting = True
        self._loop.call_at(max(time.monotonic(), self._not_before), self._order)

    def _order(self) -> None:
        if self._closed:
            return
        try:
            self._starter.start()
        except RuntimeError as error:
            self._is_starting = False
            self._died()
            self._refuse(f"the GPU helper cannot be started: {error}")

    def _arrived(self, arrival: HelperProcess | str) -> None:
        """On the starter's thread."""
        self._arrivals.append(arrival)
        self._loop.post(self._take_arrival)

    def _take_arrival(self) -> None:
        if self._closed or not self._arrivals:
            return
        arrival = self._arrivals.popleft()
        self._is_starting = False
        if isinstance(arrival, str):
            self._died()
            self._refuse(arrival)
            return
        held = self._held = _Held(arrival, time.monotonic())
        self._loop.watch(arrival.sock.fileno(), lambda _: self._read(held))
        self._loop.watch(arrival.pidfd, lambda _: self._look_at_end(held))
        self._go_on()

    def _read(self, held: _Held) -> None:
        if held is not self._held:
            return
        try:
            for answer in held.process.answers():
                request = held.asked.get(answer["id"])
                if request is not None:
                    result = result_of(request.do, answer)
                    del held.asked[answer["id"]]
                    held.has_answered = True
                    self._answer(request, result)
        except (Hung, KeyError, TypeError, ValueError) as error:
            self._kill(held, f"its answers cannot be read: {error!r}")
            return
        self._end_if_hung(held)

    def _end_if_hung(self, held: _Held) -> None:
        moves = any(request.is_move or request.settles for request in held.asked.values())
        if held.hangs and not moves:
            self._kill(held, "it hangs")

    def _kill(self, held: _Held, why: str) -> None:
        """Its end comes by its pidfd; if it does not come, it is left to itself."""
        if held.killed is None:
            log.warning("the GPU helper (pid %d) is killed: %s", held.process.pid, why)
            held.process.kill()
            held.why = f"killed: {why}"
            held.killed = self._loop.call_in(GRACE_SECONDS, lambda: self._leave(held))

    def _leave(self, held: _Held) -> None:
        if held is self._held:
            self._unwatch(held.process)
            self._stuck.append(held.process)
            self._loop.watch(held.process.pidfd, lambda _: self._let_go(held.process))
            self._over(held, "it sleeps in the driver and cannot be ended")

    def _let_go(self, process: HelperProcess) -> None:
        if process in self._stuck and process.reap():
            self._stuck.remove(process)
            self._loop.unwatch(process.pidfd)
            process.close()

    def _look_at_end(self, held: _Held) -> None:
        if held is not self._held:
            return
        if not held.killed:
            self._read(held)  # what it has answered before its end
        how = held.process.reap()
        if how:
            self._unwatch(held.process)
            held.process.close()
            self._over(held, how)

    def _over(self, held: _Held, how: str) -> None:
        """Nothing more comes of this helper: its moves are settled by the next one."""
        self._held = None
        if held.killed is not None:
            held.killed.cancel()
        if held.killed is None:
            log.warning("the GPU helper (pid %d) has ended: %s", held.process.pid, how)
        self._died(held.since)
        text = f"the GPU helper has ended ({held.why or how})"
        for request in held.asked.values():
            if request.is_move:
                self._settle(request, text)
            else:
                self._answer(request, GpuError("unavailable", text, request.unknown))
        self._go_on()

    def _settle(self, move: _Request, cut_off_by: str) -> None:
        if move.timer is not None:
            move.timer.cancel()
        fields = {"token": move.fields["token"], "seconds": SETTLE_SECONDS}
        seconds = SETTLE_SECONDS + GRACE_SECONDS + max(0.0, self._not_before - time.monotonic())
        self._wait(
            _Request("settle", fields, move.done, seconds, settles=move, cut_off_by=cut_off_by), seconds
        )

    def _died(self, since: float | None = None) -> None:
        """The first time the next helper may come at once, then with growing pauses."""
        now = time.monotonic()
        if since is not None and now - since > LIVED_SECONDS:
            self._deaths = 0
        pause = FIRST_PAUSE_SECONDS * 2 ** min(self._deaths - 1, 10) if self._deaths else 0.0
        self._deaths += 1
        self._not_before = now + min(pause, LONGEST_PAUSE_SECONDS)

    def _refuse(self, why: str) -> None:
        """There is no helper: only what must know the end of a move waits for the next try."""
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            if request.settles is not None:
                self._waiting.append(request)
            else:
                self._answer(request, GpuError("unavailable", why))
        if self._waiting:
            if self._again is not None:
                self._again.cancel()
            self._again = self._loop.call_in(FIRST_PAUSE_SECONDS, self._go_on)

    def _unwatch(self, process: HelperProcess) -> None:
        for fd in (process.sock.fileno(), process.pidfd):
            self._loop.unwatch(fd)


def _end_of(move: _Request, settled: Settled | GpuError, cut_off_by: str) -> Moved | GpuError:
    """What is said of a move that the next helper has settled."""
    text = f"{move.do} was cut off, as {cut_off_by}"
    if isinstance(settled, GpuError):
        return GpuError(settled.kind, f"{text}: {settled.message}", settled.harm)
    if settled.state == "gone":
        return GpuError("gone", f"{text}, and no process with CUDA is left")
    if settled.state == ("checkpointed" if move.do == "checkpoint" else "running"):
        return Moved(settled.pids, 0.0)
    return GpuError("unavailable", f"{text}: all is as before")
