"""A worker's life: come to the door, load the app, serve its calls, leave.

`start_worker` is the function of loky's process, so it must be importable and its arguments tiny.
An app with its own interpreter gets there by exec: same pid, same pidfd.  A template
comes to the door first, and its forks, each a worker, once more.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from warmd import __version__
from warmd.daemon.worker import bars, output, process, results, stack, template
from warmd.daemon.worker.calling import Arguments, plan_for_setup, takes_argument
from warmd.daemon.worker.invoke import Calls
from warmd.daemon.worker.link import Link
from warmd.daemon.worker.load import App, PrepareError, load
from warmd.daemon.worker.page import ControlPage
from warmd.daemon.worker.runtime import Runtime, leave_fork
from warmd.daemon.worker.text import describe
from warmd.daemon.worker.unfit import Unfit
from warmd.protocol.messages import PROTOCOL, Body
from warmd.protocol.values import fall_back_on, unpack
from warmd.protocol.work import Arrived, Begin, Prepare, Ready, StartFailed

if TYPE_CHECKING:
    from warmd.daemon.worker.invoke_async import AsyncCalls
    from warmd.daemon.worker.reload import Reloader

EXIT_START_FAILED = 1


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the daemon gives to a process that has come to its door."""

    link: Link
    begin: Begin | Prepare
    page: ControlPage
    stack_fd: int


def start_worker(
    door_path: str, python: str | None = None, log_path: str | None = None, requirements: str = ""
) -> NoReturn:
    """Runs a worker in this process to its end; what goes wrong before it has a link is in the log.

    With `requirements` it runs in an environment that has them.  The process's own environment says the
    rest: `WARMD_WORKER_TOKEN` and, for a parent check, `WARMD_DAEMON_PID`.
    """
    if log_path is not None:
        output.write_to(log_path)
    failed = _become_interpreter(door_path, python, requirements)
    process.become_worker()
    fall_back_on(results.plain)
    arrival, heritage = _come_in(door_path), None
    faulthandler.enable(file=2)
    bars.watch()
    if isinstance(arrival.begin, Prepare):
        heritage = _be_template(arrival, arrival.begin, failed)
        arrival = _come_in(door_path)
    if not isinstance(arrival.begin, Begin):
        raise ConnectionError(f"the daemon began with {type(arrival.begin).__name__}")
    if heritage is not None:
        output.repeat(heritage.log_path)
    sys.exit(_live(arrival, arrival.begin, failed, heritage))


def _become_interpreter(door_path: str, python: str | None, requirements: str) -> ImportError | None:
    """Go on as the app's own interpreter; returns where there is none, or with why it cannot be run."""
    if requirements:
        from warmd.daemon.worker import environment

        process.belong_to_daemon()  # to make it takes long
        try:
            python = environment.interpreter(python, requirements)
        except environment.EnvironmentFailed as failure:
            return ImportError(f"the app's environment could not be made: {failure}")
    if python is None or not process.is_other_interpreter(python):
        return None
    failed = process.exec_interpreter(python, door_path)
    error = ImportError(f"the interpreter {python} cannot be run: {failed.strerror}")
    error.__cause__ = failed
    return error


def _come_in(door_path: str) -> Arrival:
    """Show the token at the door, and take what is given for it.  Raises OSError, ConnectionError."""
    link = Link.to_door(door_path)
    link.send(Arrived(PROTOCOL, __version__, os.environ[process.TOKEN_VARIABLE], os.getpid()))
    begin, (page_fd, stack_fd) = link.receive_with_files(2)
    if not isinstance(begin, Begin | Prepare):
        raise ConnectionError(f"the daemon began with {type(begin).__name__}")
    if begin.cgroup is not None:
        process.join_cgroup(begin.cgroup)
    if begin.data_bytes is not None:
        process.limit_data(begin.data_bytes)
    page = ControlPage.attach(page_fd)
    output.redirect(begin.log_path, page.add_lines_dropped)
    stack.write_on_signals(stack_fd)
    return Arrival(link, begin, page, stack_fd)


def _be_template(arrival: Arrival, prepare: Prepare, failed: ImportError | None) -> template.Heritage:
    """Returns in forks, each of them a worker to be, with nothing left of the template's own."""
    try:
        heritage = template.live(arrival.link, prepare, failed)
    except BaseException as error:
        sys.exit(_start_failed(arrival.link, "imports", error))
    arrival.page.close()
    os.close(arrival.stack_fd)
    return heritage


def _live(
    arrival: Arrival, begin: Begin, failed: ImportError | None, heritage: template.Heritage | None
) -> int:
    link = arrival.link
    link.inbox.max_body_bytes = begin.max_message_bytes
    link.lend_up_to(begin.max_lent_bytes)
    if begin.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(begin.gpus)
    started = time.perf_counter()
    try:
        app, reloader = _import(begin, failed) if heritage is None else (heritage.app, heritage.reloader)
    except BaseException as error:
        return _start_failed(link, "imports", error)
    imported = time.perf_counter()
    runtime, calls = _machinery(arrival, begin, app)
    try:
        _set_up(runtime, begin.setup)
    except BaseException as error:
        return _start_failed(link, "setup", error)
    setup_seconds = time.perf_counter() - imported
    if reloader is not None:
        runtime.reload_by(reloader)
    link.send(
        Ready(
            app.functions,
            imported - started,
            setup_seconds,
            runtime.on_cancel is not None,
            reloads=reloader is not None,
        )
    )
    finish = calls.serve()
    _unload(runtime, finish.reason)
    if finish.parked:
        os._exit(0)  # what libraries do at the interpreter's exit would wait for the driver
    return 0


def _import(begin: Begin, failed: ImportError | None) -> tuple[App, Reloader | None]:
    """Raises what the import raises, and PrepareError."""
    if failed is not None:
        raise failed
    began_ns = time.time_ns()
    app = load(begin.spec, begin.pickled)
    reloader = template.reloader_for(begin.spec, began_ns)
    app.prepare()
    return app, reloader


def _machinery(arrival: Arrival, begin: Begin, app: App) -> tuple[Runtime, Calls | AsyncCalls]:
    link, page = arrival.link, arrival.page
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
    looping.show_coroutines(arrival.stack_fd)
    return looping, AsyncCalls(looping)


def _set_up(runtime: Runtime, body: Body) -> None:
    app = runtime.app
    runtime.run_hook(app.make)
    setup = app.hook("setup")
    if setup is not None:
        args, kwargs = _setup_arguments(app, setup, body)
        runtime.run_hook(setup, *args, **kwargs)
    elif len(body):
        raise TypeError(f"app {app.name} has no setup() that could take a setup value")
    runtime.on_cancel = app.hook("on_cancel")


def _setup_arguments(app: App, setup: Callable[..., Any], body: Body) -> Arguments:
    plan = plan_for_setup(setup, app.is_base_app, app.cls)
    try:
        return plan.arguments(unpack(body)) if len(body) else plan.default_arguments()
    except Unfit as error:
        raise TypeError(str(error)) from error.__cause__


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
    if isinstance(error, PrepareError) and error.__cause__ is not None:
        phase, error = "prepare", error.__cause__
    if link.forked:
        leave_fork(error)
    text = describe(error)
    output.note(f"{phase} failed:\n{text.traceback}")
    link.send(StartFailed(phase, *text))
    output.flush()
    return EXIT_START_FAILED
