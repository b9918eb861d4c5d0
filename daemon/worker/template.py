"""A template: a process that has imported an app and becomes its workers by forking.

    daemon            template              middle              worker
      |--- Fork ------->|---- fork ----------->|
      |                 |                      | token, cgroup, session
      |                 |                      |---- fork ---------->|
      |                 |<--- the worker's pid, and exit             | waits for the middle's end
      |<-- Forked ------|                                            | PDEATHSIG, parent, setsid
      |<------------------------------------------------ Arrived ----|

The worker is to be the daemon's own child, as if it had been spawned: so it has a middle for a
parent, whose end makes it an orphan, and orphans of the daemon's descendants are the daemon's.  All by
which the daemon finds a worker's tree is set by the middle, so that by `Forked` nothing of the
worker can be taken for the template's: the token in its environment, which is overwritten in
place (else /proc/PID/environ goes on showing the template's), its cgroup, its session.

PDEATHSIG is asked for only when the daemon is the parent: it is tied to the parent of that moment.
The parent is checked afterwards, since the daemon may have died before.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warmd.daemon.worker import bars, forksafety, process, sources, torchuse
from warmd.daemon.worker.link import Link
from warmd.daemon.worker.load import App, load
from warmd.daemon.worker.runtime import leave_fork
from warmd.daemon.worker.shortage import with_remedy
from warmd.protocol.messages import NOTHING
from warmd.protocol.values import pack
from warmd.protocol.work import (
    NO_WORKER,
    AppSpec,
    Describe,
    Described,
    Fork,
    Forked,
    ForkFailed,
    Outdated,
    Prepare,
    Prepared,
)

if TYPE_CHECKING:
    from warmd.daemon.worker.reload import Reloader

ADOPTION_SECONDS = 10.0
"""For a middle to end after its fork; the daemon gives the whole fork no longer."""
ANSWER_BYTES = 512


@dataclass(frozen=True, slots=True)
class Heritage:
    """What a worker has of its template."""

    app: App
    log_path: str
    """Where its import has written."""
    reloader: Reloader | None


class Identity:
    """What of this process's environment says whose it is, in the memory that /proc shows.

    To be made before any foreign code runs: `putenv` puts new text elsewhere.
    """

    NAMES = (process.TOKEN_VARIABLE, process.SESSION_VARIABLE, process.FOLDER_VARIABLE)

    def __init__(self) -> None:
        getenv = ctypes.CDLL(None).getenv
        getenv.restype = ctypes.c_void_p
        self._places = {name: (getenv(name.encode()), len(os.environ.get(name, ""))) for name in self.NAMES}

    def change(self, token: str, session: str) -> None:
        """Be another worker, for all who look, and for children to come.  Raises ValueError."""
        base = os.path.dirname(os.environ.get(process.FOLDER_VARIABLE, ""))
        folder = os.path.join(base, process.folder_name(session))
        for name, value in zip(self.NAMES, (token, session, folder), strict=True):
            place, size = self._places[name]
            if place is None or size != len(value.encode()):
                raise ValueError(f"{name} has {size} bytes, and {len(value)} are to be put there")
            ctypes.memmove(place, value.encode(), size)
            os.environ[name] = value


def live(link: Link, prepare: Prepare, failed: ImportError | None) -> Heritage:
    """Be a template until the daemon ends it.

    Returns in each process that is to go to the door as a worker.  Raises what the import, or the app's
    `prepare`, raises.
    """
    identity, sockets = Identity(), forksafety.open_sockets()
    started, began_ns = time.perf_counter(), time.time_ns()
    if failed is not None:
        raise failed
    app = load(prepare.spec, prepare.pickled)
    reloader = reloader_for(prepare.spec, began_ns)
    if app.is_async:
        _import_for_async()
    threads = 0
    if not prepare.describes:
        # Threads of a library do not come along with a fork, and it waits for them for ever.
        threads = torchuse.keep_to_one_thread() if app.prepares else 0
        app.prepare()
    if link.forked:
        leave_fork(None)
    bars.end_monitors()
    seconds = time.perf_counter() - started
    unforkable = forksafety.objection(sockets, app.prepares)
    imported = sources.read_so_far()
    # The collector writes into every object that it looks at, and so would unshare its page.
    gc.collect()
    gc.freeze()
    link.send(Prepared(seconds, private_bytes(), unforkable))
    _serve(link, identity, app, imported)
    torchuse.use_threads(threads)
    return Heritage(app, prepare.log_path, reloader)


def reloader_for(spec: AppSpec, began_ns: int) -> Reloader | None:
    """For an app that was imported just now; `began_ns`: the wall clock before."""
    if not spec.reload:
        return None
    from warmd.daemon.worker.reload import Reloader

    return Reloader(spec.target, began_ns)


def _serve(link: Link, identity: Identity, app: App, imported: list[sources.Source]) -> None:
    """Fork when told to; returns in workers only."""
    while True:
        order = link.receive()
        if isinstance(order, Describe):
            _describe(link, order, app, imported)
        if not isinstance(order, Fork):
            continue
        if order.whole:
            _become_worker(link, identity, order)
            return
        if not sources.unchanged(imported):
            link.send(Outdated(order.worker))
        elif _fork(link, identity, order):
            _renew()
            return


def _describe(link: Link, order: Describe, app: App, imported: list[sources.Source]) -> None:
    if not sources.unchanged(imported):
        link.send(Outdated(NO_WORKER))
        return
    from warmd.daemon.worker.schema import describe

    value = pack(describe(app))
    link.send(Described(len(value), value if len(value) <= order.max_bytes else NOTHING))


def _become_worker(link: Link, identity: Identity, order: Fork) -> None:
    """The process itself, as it is."""
    if order.cgroup is not None:
        process.join_cgroup(order.cgroup)
    identity.change(order.token, order.session)
    link.leave()


def _fork(link: Link, identity: Identity, order: Fork) -> bool:
    """Make a worker; True in the worker itself."""
    reading, writing = os.pipe()
    try:
        middle = forksafety.fork()
    except OSError as error:
        link.send(ForkFailed(order.worker, f"the template could not fork: {with_remedy(error)}"))
        middle = -1
    if middle == 0:
        _become_middle(identity, order, writing)
        os.close(reading)
        os.close(writing)
        _be_adopted()
        return True
    os.close(writing)
    if middle > 0:
        said = os.read(reading, ANSWER_BYTES).decode("utf-8", "replace")
        os.waitid(os.P_PID, middle, os.WEXITED)
        if said.isdecimal():
            link.send(Forked(order.worker, int(said)))
        else:
            link.send(ForkFailed(order.worker, said or "the process between template and worker died"))
    os.close(reading)
    return False


def _become_middle(identity: Identity, order: Fork, writing: int) -> None:
    """Returns in the worker; the middle itself ends here."""
    try:
        identity.change(order.token, order.session)
        if order.cgroup is not None:
            process.join_cgroup(order.cgroup)
        os.setsid()
        worker = forksafety.fork()
    except (OSError, ValueError) as error:
        os.write(writing, f"it could not be forked: {with_remedy(error)}".encode()[:ANSWER_BYTES])
        os._exit(1)
    if worker:
        os.write(writing, b"%d" % worker)
        os._exit(0)


def _be_adopted() -> None:
    """Wait until the daemon is the parent, and die with it from then on.  Raises RuntimeError, OSError."""
    parent = os.getppid()
    if parent != process.daemon_pid():
        try:
            pidfd = os.pidfd_open(parent)
        except ProcessLookupError:  # it has ended just now
            pidfd = -1
        if pidfd >= 0:
            # It becomes readable after the children were given away.
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(ADOPTION_SECONDS * 1000)
            os.close(pidfd)
    process.belong_to_daemon()


def _renew() -> None:
    """What must not be the same in two workers, and does not renew itself after a fork as `random` does."""
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()


def _import_for_async() -> None:
    from warmd.daemon.worker import invoke_async, runtime_async  # noqa: F401


def private_bytes() -> int:
    """The memory that this process alone needs: what is not a file's, nor another's."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
