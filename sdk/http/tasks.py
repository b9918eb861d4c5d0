"""The runs of all who come by HTTP.

The daemon has each run as a detached call; here is what was learned of it, for quick answers, and in
bounded memory: what is forgotten, or was begun by a gateway that is no more, is asked of the daemon
again, whose note of the call says whose it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from warmd.http.addresses import MARK
from warmd.http.files import Files
from warmd.http.keys import Caller
from warmd.http.moments import moment
from warmd.http.outputs import Outputs
from warmd.http.owners import Owners, label_of
from warmd.http.problems import HttpProblem, text_of
from warmd.http.progress import json_of
from warmd.http.requests import Run
from warmd.http.task import OF_STATE, PREFIX, Facts, Status, Task
from warmd.protocol.errors import (
    AppError,
    CallCancelled,
    CallGone,
    DaemonError,
    DaemonLost,
    NoSession,
    WarmdError,
)
from warmd.protocol.names import is_whole_call

if TYPE_CHECKING:
    from warmd.aio import AsyncClient
    from warmd.result import Result

log = logging.getLogger("warmd.http")
MOST_TASKS = 10_000
LOG_LINES = 1000
RUN_LOG = 1
MOST_BYTES = 64 * 2**20
"""Kept here of tasks that have ended; the daemon keeps as much by itself (`detached_max_bytes`)."""
LOOK_SECONDS = 2.0
"""What the daemon has is here sooner, if the daemon is well."""


class Tasks:
    """`ended(task)` is called once at the end of each: not for those that had ended when somebody asked
    for them, unless they are found by `resume`."""

    def __init__(
        self,
        client: AsyncClient,
        owners: Owners,
        files: Files,
        outputs: Outputs,
        ended: Callable[[Task], object],
    ) -> None:
        self._client = client
        self._owners = owners
        self._files = files
        self._outputs = outputs
        self._on_end = ended
        self._tasks: dict[str, Task] = {}
        self._ended: OrderedDict[str, Task] = OrderedDict()
        self._bytes = 0
        """Of those that have ended."""
        self._followers: set[asyncio.Task[None]] = set()
        self._resumed = False
        self._waiting: set[asyncio.Timeout] = set()
        self._stopping = False

    async def run(self, caller: Caller, run: Run, facts: Facts) -> Task:
        """Begin a run; returns when the daemon has taken it, so that the session is known.

        Raises WarmdError and HttpProblem when it is refused.
        """
        opening = dict(run.opening)
        if run.session == "new":
            opening["labels"] = label_of(caller)
        elif run.session is not None:
            await self._owners.check(caller, run.session)
        given = run.input
        if MARK.encode() in facts.input:  # most have none, and some are large
            given = await self._files.in_input(given, caller.id)
        submitted = await self._client.submit(
            app=run.app,
            function=run.function,
            input=given,
            session=run.session,
            timeout=run.timeout,
            detach=True,
            note=facts.note(),
            request_id=facts.request_id,
            **opening,
        )
        if given is not run.input:
            await self._files.lend(run.input, submitted.call_id)
        if run.session == "new" and submitted.session_id is not None:
            self._owners.learn(submitted.session_id, caller)
        task = self._tasks.get(submitted.call_id)
        if task is None:  # else `resume` has found it at the daemon in this moment
            task = Task(submitted.call_id, facts, submitted.session_id)
            self._keep(task)
            self._follow(task, submitted.result)
        return task

    async def find(self, caller: Caller, id: str) -> Task:
        """The caller's task.  Raises HttpProblem where there is none."""
        call = id.removeprefix(PREFIX)
        task = self._tasks.get(call)
        if task is None and is_whole_call(call):
            task = await self._found(call)
        if task is None or not caller.may_see(task.facts.owner):
            raise HttpProblem(
                "NOT_FOUND",
                f"task not found: {id[:100]} (it was never begun with this key, or it is no longer kept)",
            )
        return task

    def owner_of(self, call: str) -> str | None:
        """The key that began the call, if that is known here."""
        task = self._tasks.get(call)
        return None if task is None else task.facts.owner

    async def look(self, task: Task) -> int:
        """Ask the daemon how far it is; how many parts it has given.

        What is known already has to do where it does not answer soon.
        """
        if task.status.final:
            return 0
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                info = await self._client.calls.get(task.call)
        except (CallGone, DaemonError, TimeoutError):
            return 0  # its end is on its way here, or that it is lost
        status = OF_STATE.get(info["state"])
        if status is not None:
            task.becomes(status)
        if info["progress"] is not None:
            task.progress = json_of(info["progress"])
        return int(info["parts"])

    async def ended(self, task: Task, seconds: float) -> None:
        """Wait for its end, at most so long, and not beyond the gateway's own end."""
        if self._stopping:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds) as patience:
                self._waiting.add(patience)
                try:
                    await task.ended.wait()
                finally:
                    self._waiting.discard(patience)

    def stop_waiting(self) -> None:
        """The gateway stops: who waits for an end is told how far it is."""
        self._stopping = True
        for patience in self._waiting:
            with contextlib.suppress(RuntimeError):  # it is over in this turn of the loop
                patience.reschedule(0.0)

    async def logs(self, task: Task) -> list[dict[str, Any]]:
        """What is known of what it printed, and the traceback that it ended with."""
        texts = []
        if task.session is not None:
            with contextlib.suppress(NoSession):  # it is gone for so long that its log is, too
                pieces = [piece async for piece in self._client.logs(task.session, tail=LOG_LINES)]
                texts.append(b"".join(pieces).decode("utf-8", "replace"))
        texts.append(task.traceback)
        return [
            {
                "id": f"{task.call[:8]}-{n}",
                "task_id": task.id,
                "created_at": moment(task.facts.created),
                "updated_at": moment(task.updated),
                "log_type": RUN_LOG,
                "content": text,
            }
            for n, text in enumerate(filter(None, texts))
        ]

    async def cancel(self, task: Task) -> None:
        """Ask for its end; raises WarmdError when the daemon cannot be asked."""
        if task.status.final:
            return
        with contextlib.suppress(CallGone):  # its end is on its way here
            if await self._client.calls.cancel(task.call):
                task.becomes(Status.CANCELLING)

    def of(self, caller: Caller) -> list[Task]:
        """The caller's tasks that are known here, the newest first."""
        return [task for task in reversed([*self._tasks.values()]) if caller.may_see(task.facts.owner)]

    async def live(self) -> set[str]:
        """The ids of all detached calls that have not ended.  Raises WarmdError."""
        return {info["id"] for info in await self._client.calls.list() if info["state"] != "done"}

    async def resume(self) -> None:
        """Take up what earlier gateways have begun and that somebody is to be told of, also what has ended
        since.  Raises WarmdError when the daemon cannot be asked."""
        for info in await self._client.calls.list():
            facts = Facts.of_note(info["note"], info["function"])
            if facts is not None and facts.webhook is not None and info["id"] not in self._tasks:
                self._take_up(info, facts)
        self._resumed = True

    async def close(self) -> None:
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)

    async def _found(self, call: str) -> Task | None:
        try:
            info = await self._client.calls.get(call)
        except CallGone:
            return None
        facts = Facts.of_note(info["note"], info["function"])
        if facts is None:
            return None
        is_news = info["state"] != "done" or not self._resumed
        task = self._tasks.get(call) or self._take_up(info, facts, is_news)
        if info["state"] == "done":
            await task.ended.wait()
        return task

    def _take_up(self, info: Any, facts: Facts, is_news: bool = True) -> Task:
        task = Task(info["id"], facts, info["session"])
        status = OF_STATE.get(info["state"])
        if status is not None:
            task.becomes(status)
        self._keep(task)
        self._follow(task, lambda: self._client.calls.result(task.call), is_news)
        return task

    def _follow(self, task: Task, result: Callable[[], Awaitable[Result]], is_news: bool = True) -> None:
        follower = asyncio.create_task(self._to_its_end(task, result, is_news))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    async def _to_its_end(self, task: Task, result: Callable[[], Awaitable[Result]], is_news: bool) -> None:
        try:
            output = (await self._result(task, result)).output
            task.output = await self._outputs.encoded_end(
                output, task.facts, task.call, partial(self._parts, task)
            )
        except WarmdError as error:
            _fails(task, error)
        except HttpProblem as problem:
            _ends_with(task, problem.code, problem.detail)
        except Exception as error:  # whatever it is: nobody is to wait for ever
            log.exception("the end of task %s cannot be told", task.id)
            text = f"the output cannot be told: {type(error).__name__}; the gateway's log says more"
            _ends_with(task, "INTERNAL", text)
        else:
            task.ran = "yes"
            task.becomes(Status.COMPLETED)
        await self._files.ended(task.call)
        self._over(task)
        if is_news:
            self._on_end(task)

    async def _parts(self, task: Task) -> int:
        """How many it has given; 0 where the daemon does not know any more."""
        try:
            return int((await self._client.calls.get(task.call))["parts"])
        except (CallGone, DaemonError):
            return 0

    async def _result(self, task: Task, result: Callable[[], Awaitable[Result]]) -> Result:
        try:
            return await result()
        except DaemonLost as lost:
            # Perhaps only this connection was lost, and the daemon goes on with the call.
            try:
                return await self._client.calls.result(task.call)
            except (CallGone, DaemonError):
                raise lost from None  # unlike what is said now, it may have run

    def _keep(self, task: Task) -> None:
        self._tasks[task.call] = task

    def _over(self, task: Task) -> None:
        """It has ended; what ended long ago goes, until the rest fits."""
        self._ended[task.call] = task
        self._bytes += task.size
        while len(self._ended) > MOST_TASKS or (self._bytes > MOST_BYTES and len(self._ended) > 1):
            call, oldest = self._ended.popitem(last=False)
            del self._tasks[call]
            self._bytes -= oldest.size


def _ends_with(task: Task, code: str, text: str) -> None:
    task.error, task.code, task.ran = text, code, "yes"
    task.becomes(Status.FAILED)


def _fails(task: Task, error: WarmdError) -> None:
    if isinstance(error, CallCancelled):
        task.error, status = "task cancelled", Status.CANCELLED
    else:
        task.error, status = text_of(error, of_pool=task.session is None), Status.FAILED
        if isinstance(error, DaemonError) and task.session is not None:
            task.error = f"the session was lost with the daemon: {error.message}"
    if isinstance(error, AppError):
        task.traceback = error.traceback
    elif "traceback" in error.details:
        task.traceback = str(error.details["traceback"])
    task.code, task.ran = error.code, error.ran
    task.becomes(status)
