"""Every setting of the daemon: its default, its bounds and what it means; `config` reads the values."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmd.protocol import places

if TYPE_CHECKING:
    from warmd.daemon.core.policy import Limits

DEFAULT = "default"
KIB, GIB = 2**10, 2**30


def _setting(
    default: Any, kind: str, doc: str, *, env: str = "", least: int = 0, most: float = math.inf
) -> Any:
    metadata = {"kind": kind, "doc": doc, "env": env, "least": least, "most": most}
    if isinstance(default, tuple):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _half_of_the_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of the daemon.  Durations are seconds, sizes bytes; `schema()` describes them."""

    session_timeout: float = _setting(
        60.0, "duration", "idle time of a session that asks for no other", least=1
    )
    max_session_timeout: float = _setting(
        3600.0, "duration or never", 'the longest session_timeout to ask for; "never" lifts it', least=1
    )
    max_lifetime: float = _setting(
        math.inf, "duration or never", "age at which a session expires, however busy it is", least=1
    )
    max_hold: float = _setting(
        3600.0, "duration or never", "the longest that a session can be held for without calls", least=1
    )
    call_timeout: float = _setting(3600.0, "duration", "time that a call may take when it names none")
    start_timeout: float = _setting(600.0, "duration", "time for a worker's import and setup")
    drain_timeout: float = _setting(30.0, "duration", "time that running calls get when the daemon stops")
    end_grace: float = _setting(10.0, "duration", "time for unload and exit before a session is killed")
    cancel_grace: float = _setting(10.0, "duration", "time that an app's on_cancel gets before the interrupt")
    max_sessions: int = _setting(256, "count", "processes at once, the shared pool's included", most=100_000)
    dispatch_ahead: int = _setting(
        32, "count or 0", "calls that a worker may have before their turn; 0: none", most=32
    )
    max_templates: int = _setting(
        16, "count or 0", "processes that import an app and are forked for each start; 0: none", most=1000
    )
    template_memory: int = _setting(
        2 * GIB, "size", "private memory of all templates; the least recently used goes first", least=2**20
    )
    template_timeout: float = _setting(
        600.0, "duration or never", "time after its last fork at which a template ends", least=1
    )
    max_queue: int = _setting(256, "count", "calls that may wait for one session", most=1_000_000)
    max_queued_bytes: int = _setting(
        2 * GIB, "size", "bodies of all calls that wait and of what sessions start from", least=64 * KIB
    )
    max_client_queued_bytes: int = _setting(512 * 2**20, "size", "the same of one client", least=64 * KIB)
    max_unread_bytes: int = _setting(
        32 * 2**20, "size", "what may lie sent and unread for one client", least=2**20, most=4 * GIB
    )
    max_stream_window: int = _setting(
        10_000, "count", "parts of a stream that may be on their way to its reader", least=64, most=1_000_000
    )
    max_connections: int = _setting(
        0, "count or 0", "clients' connections; 0, and at most: half of the open files that are allowed"
    )
    max_pool_workers: int = _setting(4, "count", "pool workers for one app and setup", most=100_000)
    max_message_bytes: int = _setting(
        256 * 2**20,
        "size",
        "all bodies of one message, a call's or an answer's",
        least=64 * KIB,
        most=4 * GIB - 1,
    )
    max_lent_bytes: int = _setting(
        2 * GIB,
        "size or 0",
        "shared memory that one client may have lent for its calls, and a worker for its answers; 0: none",
        most=2**40,
    )
    detached_keep: float = _setting(
        600.0, "duration", "time that the results and parts of a detached call are kept after its end"
    )
    detached_max_bytes: int = _setting(
        64 * 2**20, "size", "kept of all detached calls together; the oldest goes first", least=64 * KIB
    )
    log_max_bytes: int = _setting(
        8 * 2**20,
        "size",
        "size at which a session's log is cut to its newest half",
        least=64 * KIB,
        most=4 * GIB,
    )
    daemon_log_max_bytes: int = _setting(
        8 * 2**20,
        "size",
        "size at which the daemon's own log file is cut to its newest half",
        least=64 * KIB,
        most=4 * GIB,
    )
    log_keep: int = _setting(100, "count", "logs of ended sessions that are kept", most=1_000_000)
    worker_memory: float = _setting(
        math.inf, "size or never", "memory of a worker with all its children", least=64 * 2**20
    )
    worker_memory_rlimit: bool = _setting(
        True, "switch", "have a worker's large allocations fail first (RLIMIT_DATA); off for GPU apps"
    )
    gpu_driver: str = _setting(
        "nvidia", "driver", "of the GPUs: nvidia, off, or a module such as warmd.daemon.gpu.driver describes"
    )
    gpu_wait: float = _setting(
        300.0, "duration", "the longest that a start, or calls of a parked session, wait for GPU memory"
    )
    park_memory: int = _setting(
        0, "size or 0", "host memory for what parked sessions have on GPUs; 0: half of the machine's"
    )
    cgroup: str = _setting(
        "", "path", "folder of cgroups for the workers; empty: the daemon's own, if systemd has delegated it"
    )
    classes: bool = _setting(True, "switch", "accept a class given as an app (it is unpickled in its worker)")
    reload: bool = _setting(
        False, "switch", "take over functions that were edited before a session's next call; its state stays"
    )
    app_folders: tuple[str, ...] = _setting((), "paths", "folders that hold app folders", env="WARMD_APPS")
    listen: str = _setting(
        "",
        "address",
        "a TCP address too, tcp://HOST:PORT, for clients with a key (`warmd keys`); empty for none",
    )
    run_dir: str = _setting("", "path", "where the daemon's sockets and lock are; empty for the usual place")
    log_level: str = _setting("info", "level", "of the daemon's own log")

    origins: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def origin(self, name: str) -> str:
        """Where the value came from: "default", "environment WARMD_X", "flag --x" or a file's path."""
        return self.origins.get(name, DEFAULT)

    @property
    def run_path(self) -> Path:
        """The run directory, the usual one where none is set."""
        return Path(self.run_dir) if self.run_dir else places.default_run_dir()

    def limits(self) -> Limits:
        """Those of them that the rule book goes by."""
        from warmd.daemon.core.policy import Limits

        return Limits(
            max_sessions=self.max_sessions,
            dispatch_ahead=self.dispatch_ahead,
            max_queue=self.max_queue,
            max_pool_workers=self.max_pool_workers,
            max_queued_bytes=self.max_queued_bytes,
            max_client_queued_bytes=self.max_client_queued_bytes,
            max_unread_bytes=self.max_unread_bytes,
            max_stream_window=self.max_stream_window,
            session_timeout_seconds=self.session_timeout,
            max_lifetime_seconds=self.max_lifetime,
            max_hold_seconds=self.max_hold,
            max_session_timeout_seconds=self.max_session_timeout,
            call_timeout_seconds=self.call_timeout,
            max_templates=self.max_templates,
            template_bytes=self.template_memory,
            template_seconds=self.template_timeout,
            start_timeout_seconds=self.start_timeout,
            end_grace_seconds=self.end_grace,
            cancel_grace_seconds=self.cancel_grace,
            gpu_wait_seconds=self.gpu_wait,
            park_bytes=self.park_memory or _half_of_the_memory(),
            detached_keep_seconds=self.detached_keep,
            detached_max_bytes=self.detached_max_bytes,
        )
