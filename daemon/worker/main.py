"""A worker's life: come to the door, load the app, serve its calls, leave.

`start_worker` is the function of loky's process, so it must be importable and its arguments tiny.
An app with its own interpreter gets there by exec: same pid, same pidfd.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from warmd import __version__
from warmd.daemon.worker import output, process
from warmd.daemon.worker.calling import plan_for_setup, takes_argument
from warmd.daemon.worker.invoke import Calls
from warmd.daemon.worker.link import Link
from warmd.daemon.worker.load import App, load
from warmd.daemon.worker.page import STACK_SIGNAL, ControlPage
from warmd.daemon.worker.runtime import Runtime, leave_fork
from warmd.daemon.worker.text import describe
from warmd.protocol.messages import PROTOCOL, Body
from warmd.protocol.values import unpack
from warmd.protocol.work import Arrived, Begin, Ready, StartFailed

if TYPE_CHECKING:
    from warmd.daemon.worker.invoke_async import AsyncCalls

EXIT_START_FAILED = 1


def start_worker(door_path: str, python: str | None = None, log_path: str | None = None) -> NoReturn:
    """Runs a worker in this process to its end; what goes wrong before it has a link is in the log.

    The environment says the rest: `WARMD_WORKER_TOKEN` and, for a parent check, `WARMD_DAEMON_PID`.
    """
    failed = None
    if log_path is not None:
        output.write_to(log_path)
    if python is not None and process.is_other_interpreter(python):
        failed = process.exec_interpreter(python, door_path)
    process.become_worker()
    link = Link.to_door(door_path)
    link.send(Arrived(PROTOCOL, __version__, os.environ[process.TOKEN_VARIABLE], os.getpid()))
    begin, (page_fd, stack_fd) = link.receive_with_files(2)
    if not isinstance(begin, Begin):
        raise ConnectionError(f"the daemon began with {type(begin).__name__}")
    link.inbox.max_body_bytes = begin.max_message_bytes
    if begin.cgroup is not None:
        process.join_cgroup(begin.cgroup)
    if begin.data_bytes is not None:
        process.limit_data(begin.data_bytes)
    page = ControlPage.attach(page_fd)
    output.redirect(begin.log_path, page.add_lines_dropped)
    faulthandler.enable(file=2)
    faulthandler.register(STACK_SIGNAL, file=stack_fd, all_threads=False, chain=False)
    sys.exit(_live(link, page, begin, stack_fd, failed))


def _live(link: Link, page: ControlPage, begin: Begin, stack_fd: int, failed: OSError | None) -> int:
    started = time.perf_counter()
    try:
        if failed is not None:
            raise ImportError(
                f"the interpreter {begin.spec.python} cannot be run: {failed.strerror}"
            ) from failed
        app = load(begin.spec, begin.pickled)
    except BaseException as error:
        return _start_failed(link, "imports", error)
    imported = time.perf_counter()
    runtime, calls = _machinery(link, page, begin, stack_fd, app)
    try:
        _set_up(runtime, begin.setup)
    except BaseException as error:
        return _start_failed(link, "setup", error)
    setup_seconds = time.perf_counter() - imported
    link.send(Ready(app.functions, imported - started, setup_seconds, runtime.on_cancel is not None))
    _unload(runtime, calls.serve())
    return 0


def _machinery(
    link: Link, page: ControlPage, begin: Begin, stack_fd: int, app: App
) -> tuple[Runtime, Calls | AsyncCalls]:
    if link.forked:
        leave_fork(None)
    if not app.is_async:
        runtime = Runtime(link, page, begin, app)
        runtime.install()
        return runtime, Calls(runtime)
    # asyncio costs 40 ms of CPU, which sync apps are spared.
    from warmd.daemon.worker.invoke_async import AsyncCalls
    from warmd.daemon.worker.runtime_async import LoopRuntime

    looping = LoopRuntime(link, page, begin, app)
    looping.install()
    looping.show_coroutines(stack_fd)
    return looping, AsyncCalls(looping)


def _set_up(runtime: Runtime, body: Body) -> None:
    app = runtime.app
    runtime.run_hook(app.make)
    setup = app.hook("setup")
    if setup is not None:
        plan = plan_for_setup(setup)
        args, kwargs = plan.arguments(unpack(body)) if len(body) else plan.default_arguments()
        runtime.run_hook(setup, *args, **kwargs)
    elif len(body):
        raise TypeError(f"app {app.name} has no setup() that could take a setup value")
    runtime.on_cancel = app.hook("on_cancel")


def _unload(runtime: Runtime, reason: str) -> None:
    unload = runtime.app.hook("unload")
    try:
        if unload is not None:
            runtime.run_hook(unload, *([reason] if takes_argument(unload) else []))
        runtime.close()
    except BaseException as error:
        output.note(f"unload raised:\n{describe(error).traceback}")
    output.flush()


def _start_failed(link: Link, phase: str, error: BaseException) -> int:
    if link.forked:
        leave_fork(error)
    text = describe(error)
    output.note(f"{phase} failed:\n{text.traceback}")
    link.send(StartFailed(phase, *text))
    output.flush()
    return EXIT_START_FAILED
