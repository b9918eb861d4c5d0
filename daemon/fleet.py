"""The workers' processes as the server holds them: one record each, from its order to its grave.

A worker's end comes in two halves, in any order: its process exits (the pidfd), and its tree is
swept (`tree.Sweeper`).  The rule book hears of the exit first.  Between the two the process stays
a zombie, so that its pid means nobody else while the sweep goes by it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from warmd.daemon import stacks
from warmd.daemon.cgroup import Cgroups, out_of_memory, remove
from warmd.daemon.core import effects as fx
from warmd.daemon.core.events import (
    AboutWorker,
    GpuId,
    LinkLost,
    OutOfMemory,
    SpawnFailed,
    StackCaptured,
    TreeGone,
    WithdrawalSettled,
    Word,
    WorkerExited,
    WorkerSaid,
    WorkerSpawned,
)
from warmd.daemon.door import Door
from warmd.daemon.folders import folder_of
from warmd.daemon.forks import Forks
from warmd.daemon.held import Worker, new_worker
from warmd.daemon.launch import Launch, Launcher, worker_environment
from warmd.daemon.logs import SessionLogs
from warmd.daemon.loop import Loop
from warmd.daemon.memory import MemoryWatch, kernel_kills
from warmd.daemon.processes import await_exit, exit_of
from warmd.daemon.tree import Sweeper
from warmd.daemon.worker.page import INTERRUPT_SIGNAL
from warmd.daemon.worker.shortage import with_remedy
from warmd.protocol import places, work
from warmd.protocol.messages import NOTHING, Body, SessionId
from warmd.protocol.work import (
    NO_WORKER,
    AppSpec,
    AskCancel,
    Begin,
    Forked,
    ForkFailed,
    Ordinal,
    Prepare,
    WorkerId,
)

log = logging.getLogger("warmd.fleet")

WITHDRAWAL_SECONDS = 0.002
"""By then a store to the control page is seen by all cores (`core.ahead`)."""
LOOK_AGAIN_SECONDS = 0.01
CLOSE_SECONDS = 2.0
"""For workers that are killed with the daemon to leave the process table."""
ENDS_OF_CALLS = frozenset({work.Returned, work.Raised, work.Interrupted, work.Declined, work.NoFunction})


class Fleet:
    """Performs the effects that concern workers; what happens to them becomes events for `submit`."""

    def __init__(
        self,
        loop: Loop,
        run_dir: Path,
        max_message_bytes: int,
        logs: SessionLogs,
        submit: Callable[[AboutWorker], object],
        memory: MemoryWatch,
        limit_data: bool = False,
        cgroups: Cgroups | None = None,
        max_lent_bytes: int = 0,
    ) -> None:
        self._loop = loop
        self._run_dir = run_dir
        self._max_message_bytes = max_message_bytes
        self._logs = logs
        self._submit = submit
        self._memory = memory
        self._limit_data = limit_data
        self._cgroups = cgroups
        self._workers: dict[WorkerId, Worker] = {}
        self._lines_dropped_before = 0
        path = places.door_path(run_dir)
        self.door = Door(loop, path, max_message_bytes, self._said, self._lost, max_lent_bytes)
        self._launcher = Launcher(self._on_started, self._on_failed)
        self._sweeper = Sweeper(self._launcher, self._on_swept)
        self._forks = Forks(self._workers, self._launcher, submit, self._started)
        self.door.arrived = self._forks.arrived
        self.tell = self.door.tell

    @property
    def lines_dropped(self) -> int:
        """Lines of output, of all workers so far, that a full disk could not take."""
        now = sum(worker.page.lines_dropped for worker in self._workers.values())
        return self._lines_dropped_before + now

    def token_of(self, id: WorkerId) -> str | None:
        """By which all processes of a worker's tree are known."""
        worker = self._workers.get(id)
        return worker.token if worker is not None else None

    def session_of(self, id: WorkerId) -> SessionId | None:
        worker = self._workers.get(id)
        return worker.session if worker is not None else None

    def worker_of(self, token: str) -> WorkerId | None:
        return next((id for id, worker in self._workers.items() if worker.token == token), None)

    def reap_orphans(self) -> None:
        """A child has ended (SIGCHLD); adopted ones are nobody else's to reap."""
        self._sweeper.reap_orphans()

    def close(self) -> None:
        """End all workers at once and release everything."""
        for worker in self._workers.values():
            self._signal(worker, signal.SIGKILL)
        self._launcher.close()
        self._sweeper.close()
        until = time.monotonic() + CLOSE_SECONDS
        for worker in self._workers.values():
            if worker.pidfd >= 0:
                await_exit(worker.pidfd, max(0.0, until - time.monotonic()))
            self._release(worker)
        self._workers.clear()
        self.door.close()

    # Effects

    def spawn(self, effect: fx.Spawn) -> None:
        pickled, gpus = effect.pickled, effect.gpus
        worker = self._expected(effect.worker, effect.session, effect.spec, effect.setup, pickled, gpus)
        if worker is not None:
            self._launch(worker, effect.spec, effect.env)

    def prepare(self, effect: fx.Prepare) -> None:
        worker = self._expected(effect.worker, effect.log, effect.spec, None, effect.pickled)
        if worker is not None:
            self._launch(worker, effect.spec, effect.env)

    def fork(self, effect: fx.Fork) -> None:
        setup, gpus = effect.setup, effect.gpus
        worker = self._expected(effect.worker, effect.session, effect.spec, setup, NOTHING, gpus)
        if worker is None:
            return
        worker.template = effect.template
        cgroup = str(worker.cgroup) if worker.cgroup is not None else None
        order = work.Fork(effect.worker, worker.token, effect.session, cgroup, effect.whole)
        self.door.tell(effect.template, order)
        if effect.whole:
            self._hand_over(self._workers[effect.template], worker)

    def _launch(self, worker: Worker, spec: AppSpec, env: Mapping[str, str]) -> None:
        users = {**spec.env, **env}
        full = worker_environment(users, worker.token, worker.session, spec.name, str(self._run_dir))
        name, door = f"warmd-{worker.session[:13]}", str(self.door.path)
        launch = Launch(worker.id, name, door, full, worker.python, worker.log_path, spec.requirements)
        self._launcher.start(launch)

    def _hand_over(self, template: Worker, worker: Worker) -> None:
        """The process of a template is a session's from now on.  What is left here goes with its link."""
        template.given = True
        pid, pidfd = template.pid, template.pidfd
        template.pid, template.pidfd = 0, -1
        self._loop.unwatch(pidfd)
        self._memory.remove(pid)
        self._started(worker.id, pid, pidfd)

    def withdraw(self, effect: fx.Withdraw) -> None:
        worker = self._workers.get(effect.worker)
        if worker is not None:
            worker.page.withdraw(effect.ordinal)
            self._loop.call_in(WITHDRAWAL_SECONDS, lambda: self._settle(worker, effect.ordinal))

    def _settle(self, worker: Worker, ordinal: Ordinal) -> None:
        if worker.id in self._workers:
            self._submit(WithdrawalSettled(worker.id, ordinal, worker.page.entered >= ordinal))

    def request_cancel(self, effect: fx.RequestCancel) -> None:
        worker = self._workers.get(effect.worker)
        if worker is not None:
            worker.page.request_cancel(effect.ordinal)
            self.door.tell(effect.worker, AskCancel(effect.ordinal))
            if effect.signal:
                self._signal(worker, INTERRUPT_SIGNAL)

    def interrupt(self, effect: fx.Interrupt) -> None:
        worker = self._workers.get(effect.worker)
        if worker is not None:
            worker.page.request_interrupt(effect.ordinal)
            self._signal(worker, INTERRUPT_SIGNAL)

    def capture_stack(self, effect: fx.CaptureStack) -> None:
        def done(text: str) -> None:
            self._submit(StackCaptured(effect.worker, effect.ordinal, text))

        stacks.capture(self._loop, self._workers.get(effect.worker), done)

    def look(self, id: WorkerId, done: Callable[[str], None]) -> None:
        """Take the stack of a worker without any intention; `done("")` where there is none to be had.

        Never in the way of a capture that the rule book has ordered.
        """
        stacks.look(self._loop, self._workers.get(id), done)

    def kill(self, effect: fx.Kill) -> None:
        worker = self._workers.get(effect.worker)
        if worker is None or worker.sweep != "none":
            return
        if worker.pidfd < 0:
            log.error("worker %d is to be killed but has no process", worker.id)
            return
        self._kill(worker)

    def _kill(self, worker: Worker) -> None:
        self._memory.remove(worker.pid)
        worker.sweep = "running"
        self._signal(worker, signal.SIGKILL)
        folder = folder_of(self._run_dir, worker.session)
        self._sweeper.sweep(worker.id, worker.token, worker.pid, worker.cgroup, folder)

    def _end_for_memory(self, worker: Worker, found: OutOfMemory) -> None:
        """Nothing may grow on while the rule book is asked; it hears of the exit and its cause."""
        if worker.sweep == "none" and not worker.exited:
            log.warning("worker %d uses %d bytes: killed", worker.id, found.used_bytes)
            worker.out_of_memory = found
            self._kill(worker)

    def forget(self, effect: fx.Forget) -> None:
        worker = self._workers.pop(effect.worker, None)
        if worker is not None:
            self._release(worker)

    # From the order to the process

    def _expected(
        self,
        id: WorkerId,
        session: SessionId,
        spec: AppSpec,
        setup: Body | None,
        pickled: Body,
        gpus: tuple[GpuId, ...] | None = None,
    ) -> Worker | None:
        """The record of a process to come, which the door expects; None where that failed and was told.

        Without `setup` it is to be a template.
        """
        try:
            worker = self._recorded(id, session, spec)
            cgroup = str(worker.cgroup) if worker.cgroup is not None else None
            # CUDA reserves far more address space than it uses.
            data = worker.memory_bytes if self._limit_data and spec.asks.gpu is None else None
            start: Begin | Prepare
            if setup is None:
                start = Prepare(session, spec, worker.log_path, data, cgroup, id < NO_WORKER, pickled)
            else:
                limit, lent = self._max_message_bytes, self.door.loans.limit_bytes
                uuids = None if gpus is None else [str(gpu) for gpu in gpus]
                log_path = worker.log_path
                start = Begin(session, spec, log_path, limit, data, cgroup, lent, uuids, setup, pickled)
            self.door.expect(worker.token, id, start, (worker.page.fd, worker.stack_fd))
        except (OSError, ValueError) as error:
            log.warning("worker %d could not be prepared: %s", id, error)
            self._submit(SpawnFailed(id, with_remedy(error)))
            return None
        return worker

    def _recorded(self, id: WorkerId, session: SessionId, spec: AppSpec) -> Worker:
        """Raises OSError."""
        worker = self._workers[id] = new_worker(id, session)
        worker.python = spec.python if spec.python != sys.executable else None
        worker.log_path = self._logs.open_session(session)
        worker.memory_bytes = self._memory.limit_for(spec.asks.memory_bytes)
        if self._cgroups is not None:
            worker.cgroup = self._cgroups.make(worker.id, worker.memory_bytes)
        return worker

    def _on_started(self, id: WorkerId, pid: int, pidfd: int) -> None:
        self._loop.post(lambda: self._started(id, pid, pidfd))

    def _on_failed(self, id: WorkerId, text: str) -> None:
        self._loop.post(lambda: self._submit(SpawnFailed(id, text)))

    def _started(self, id: WorkerId, pid: int, pidfd: int) -> None:
        worker = self._workers[id]
        worker.pid, worker.pidfd = pid, pidfd
        worker.kernel_kills = kernel_kills()
        if self._cgroups is None or not self._cgroups.limits_memory:
            limit = worker.memory_bytes
            self._memory.add(pid, worker.token, limit, lambda found: self._end_for_memory(worker, found))
        self._submit(WorkerSpawned(id, pid))
        try:
            self._loop.watch(pidfd, lambda _mask: self._on_exit(worker))
        except OSError as error:
            self._submit(LinkLost(id, f"cannot be watched: {error}"))  # which ends it
            self._look_for_exit(worker)

    def _look_for_exit(self, worker: Worker) -> None:
        if worker.id in self._workers and not worker.exited:
            self._on_exit(worker)
            self._loop.call_in(LOOK_AGAIN_SECONDS, lambda: self._look_for_exit(worker))

    # What workers say

    def _said(self, id: WorkerId, message: Word) -> None:
        if isinstance(message, (Forked, ForkFailed)):
            self._forks.told(id, message)
            return
        worker = self._workers.get(id)
        if worker is not None and type(message) in ENDS_OF_CALLS:
            stacks.call_ended(worker)
        self._submit(WorkerSaid(id, message))

    def _lost(self, id: WorkerId, text: str) -> None:
        worker = self._workers.get(id)
        if worker is not None and worker.given:
            self._release(self._workers.pop(id))
        else:
            self._submit(LinkLost(id, text))

    # The end, in two halves

    def _on_exit(self, worker: Worker) -> None:
        end = exit_of(worker.pidfd)
        if end is None:
            return
        self._loop.unwatch(worker.pidfd)
        self.door.read_to_end(worker.id)
        worker.exited = True
        self._memory.remove(worker.pid)
        if end.signal == "SIGKILL" and worker.sweep == "none":
            worker.out_of_memory = self._kernel_killed(worker)
        tail = self._logs.tail(worker.session)
        entered = Ordinal(worker.page.entered)
        self._submit(WorkerExited(worker.id, end.exit_code, end.signal, tail, entered, worker.out_of_memory))
        self._tell_if_gone(worker)

    def _kernel_killed(self, worker: Worker) -> OutOfMemory | None:
        """Whether the kernel has killed it for memory: its own cgroup's, or most likely for another's."""
        limit, before = worker.memory_bytes, worker.kernel_kills
        if worker.cgroup is not None and limit is not None and (found := out_of_memory(worker.cgroup, limit)):
            return found
        return OutOfMemory("kernel") if before is not None and (kernel_kills() or 0) > before else None

    def _on_swept(self, id: WorkerId, stuck: tuple[int, ...]) -> None:
        self._loop.post(lambda: self._swept(id, stuck))

    def _swept(self, id: WorkerId, stuck: tuple[int, ...]) -> None:
        worker = self._workers.get(id)
        if worker is None:
            return
        worker.sweep = "done"
        self._tell_if_gone(worker, stuck)

    def _tell_if_gone(self, worker: Worker, stuck: Sequence[int] = ()) -> None:
        if worker.sweep != "done" or not (worker.exited or stuck):
            return
        worker.sweep = "told"
        if worker.exited:
            self._launcher.reap(worker.pid, worker.pidfd)
        if stuck:
            log.error("worker %d cannot be killed: pids %s are stuck in the kernel", worker.id, stuck)
        self._submit(TreeGone(worker.id, tuple(stuck)))

    def _release(self, worker: Worker) -> None:
        self.door.forget(worker.id)
        if worker.capture is not None:
            worker.capture.cancel()
        if worker.look is not None:
            worker.look.finish()
        if worker.pidfd >= 0:
            self._loop.unwatch(worker.pidfd)
            self._launcher.reap(worker.pid, worker.pidfd)
            os.close(worker.pidfd)
        self._lines_dropped_before += worker.page.lines_dropped
        worker.page.close()
        os.close(worker.stack_fd)
        if worker.cgroup is not None:
            remove(worker.cgroup)
        self._logs.close_session(worker.session)

    def _signal(self, worker: Worker, signum: int) -> None:
        if worker.pidfd >= 0 and not worker.exited:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(worker.pidfd, signum)
