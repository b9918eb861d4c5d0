"""What listings say of sessions and calls, packed: the facts of the rule book's views as people read them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

import msgpack

from warmd.daemon.core.gpus import GpuView
from warmd.daemon.core.views import CallView, SessionView, TemplateView
from warmd.daemon.devices import Gpu
from warmd.daemon.story import PastCall
from warmd.protocol import values
from warmd.protocol.messages import Body
from warmd.protocol.work import AppSpec, Asks

MAX_PROGRESS_BYTES = 16 * 1024
"""A longer progress is left out of listings."""
_ASKS_NOTHING = Asks()._asdict()
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def packed_info(view: SessionView, now: float, ended: float | None = None) -> bytes:
    """`ended`: when the session's process did, monotonic as `now`; None for one that lives."""
    return spliced(_info(view, now, ended), "progress", view.progress, MAX_PROGRESS_BYTES)


def _info(view: SessionView, now: float, ended: float | None) -> dict[str, Any]:
    """What listings say of a session, without its progress.  Times are for people: wall clock."""
    wall = time.time() - now
    return {
        "id": view.id,
        "kind": view.kind,
        "app": view.app,
        "name": view.name,
        "labels": dict(view.labels),
        "state": view.state,
        "created": wall + view.created,
        "last_call": None if view.last_call is None else wall + view.last_call,
        "ended": None if ended is None else wall + ended,
        "calls": view.calls,
        "queued": view.queued,
        "running_call": view.running_call,
        "running_function": view.running_function,
        "running_seconds": None if view.running_since is None else max(0.0, now - view.running_since),
        "idle_timeout": None if view.idle_seconds == math.inf else view.idle_seconds,
        "expires_in": None if view.expires_at in (None, math.inf) else max(0.0, view.expires_at - now),
        "held_for": _held_for(view, now),
        "lives_for": _lives_for(view, now),
        "origin": view.origin,
        "pid": view.pid,
        "stuck": list(view.stuck),
        "memory": resident_bytes(view.pid) if view.pid else None,
        "gpu": None if view.gpu is None else _gpu_info(view.gpu, now),
        "reason": view.reason,
    }


def _gpu_info(view: GpuView, now: float) -> dict[str, Any]:
    """Bytes and seconds; `gpus` tells them apart by the GPUs' UUIDs."""
    return {
        "memory": sum(view.measured.values()),
        "reserved": sum(view.reserved.values()),
        "parked": view.parked_bytes,
        "gpus": {gpu: view.measured.get(gpu, 0) for gpu in {**view.reserved, **view.measured}},
        "kept": view.never or None,
        "moves": view.moves,
        "park_seconds": view.park_seconds or None,
        "unpark_seconds": view.unpark_seconds or None,
        "waits_seconds": None if view.waits_since is None else max(0.0, now - view.waits_since),
    }


def gpu_info(gpu: Gpu, session_of: Callable[[str], str | None]) -> dict[str, Any]:
    """What `status` says of one; `session_of` a process's token, which no client may see.

    Where it does not show our processes, those that it shows tell nothing of others' memory either.
    """
    of: dict[str, int] = {}
    others = []
    for process in gpu.processes:
        session = session_of(process.token) if process.token else None
        if session is None:
            others.append({"pid": process.pid, "memory": process.bytes})
        else:
            of[session] = of.get(session, 0) + (process.bytes or 0)
    return {
        "id": gpu.id,
        "index": gpu.index,
        "name": gpu.name,
        "memory": gpu.total_bytes,
        "used": gpu.used_bytes,
        "utilization": gpu.utilization,
        "sessions": of,
        "others": others if gpu.shows_processes else [],
        "shows_processes": gpu.shows_processes,
    }


def template_info(view: TemplateView, now: float) -> dict[str, Any]:
    """What `status` says of one."""
    return {
        "app": view.app,
        "pid": view.pid,
        "state": view.state,
        "memory": view.memory_bytes,
        "forks": view.forks,
        "age_seconds": now - view.ordered,
        "unused_seconds": now - view.used if view.state == "up" else None,
    }


def _held_for(view: SessionView, now: float) -> float | None:
    """Seconds that its hold goes on; None for none."""
    left = view.held_until - now
    return left if left > 0 and view.reason is None else None


def _lives_for(view: SessionView, now: float) -> float | None:
    """Seconds until it is too old; None for no limit."""
    left = view.created + view.lifetime_seconds - now
    return None if left == math.inf or view.reason is not None else max(0.0, left)


def resident_bytes(pid: int) -> int | None:
    """The process's resident memory; None when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return None


def packed_call(view: CallView, now: float) -> bytes:
    """What is said of a call.  Times are for people: wall clock."""
    seconds = max(0.0, now - view.since)
    facts = {
        "id": view.id,
        "state": view.state,
        "session": view.session,
        "function": view.function,
        "detached": view.detached,
        "position": view.position,
        "seconds": seconds,
        "parts": view.parts,
        "first_part": view.first_part,
        "note": view.note,
        "code": view.code,
        "ran": view.ran,
        "ended": time.time() - seconds if view.state == "done" else None,
    }
    return spliced(facts, "progress", view.progress, MAX_PROGRESS_BYTES)


def past_call_info(past: PastCall, app: str | None, now: float) -> dict[str, Any]:
    """What is said of a call that has ended, of `app`.  Times are for people: wall clock."""
    wall = time.time() - now
    return {
        "id": past.id.hex(),
        "session": past.session,
        "app": app,
        "function": past.function,
        "arrived": wall + past.arrived,
        "ended": wall + past.ended,
        "timing": None if past.timing is None else past.timing._asdict(),
        "first_seconds": _first_seconds(past),
        "code": past.code or None,
        "message": past.message,
        "ran": past.ran,
    }


def _first_seconds(past: PastCall) -> float | None:
    """From the function's beginning to its first part, as the daemon saw that."""
    if past.first_part is None or past.timing is None:
        return None
    return min(past.timing.run, max(0.0, past.first_part - (past.ended - past.timing.run)))


def packed_description(spec: AppSpec, described: Body) -> bytes:
    """What an app's process says of it, together with where it was found."""
    asks = {name: value for name, value in spec.asks._asdict().items() if value != _ASKS_NOTHING[name]}
    found = {
        "target": spec.target,
        "paths": list(spec.paths),
        "python": spec.python,
        "requirements": spec.requirements.splitlines(),
        "env": sorted(spec.env),
        "default_function": spec.default_function or None,
        "reload": spec.reload,
        "asks": {name: None if value == math.inf else value for name, value in asks.items()},
    }
    return spliced({"found": found}, "described", described, max(1, len(described)))


def spliced(facts: dict[str, Any], name: str, body: Body, most_bytes: int) -> bytes:
    """A packed map with one entry more, the bytes that a worker sent: unpacking them could import numpy
    here, or blow up in memory.  None where they are more than `most_bytes`, or no value."""
    return with_packed(facts, name, bytes(body) if _sound(body, most_bytes) else values.pack(None))


def with_packed(facts: dict[str, Any], name: str, packed: bytes) -> bytes:
    """A packed map with one entry more, which is packed already, and ours."""
    pieces = [_packer().pack_map_header(len(facts) + 1)]
    for key, value in facts.items():
        pieces += [values.pack(key), values.pack(value)]
    return b"".join([*pieces, values.pack(name), packed])


def _sound(body: Body, most_bytes: int) -> bool:
    """Whether these bytes are exactly one msgpack value, so that they cannot spoil their neighbours."""
    if not 0 < len(body) <= most_bytes:
        return False
    unpacker = msgpack.Unpacker(max_buffer_size=most_bytes)
    try:
        unpacker.feed(body)
        unpacker.skip()
    except Exception:  # msgpack raises eight unrelated kinds
        return False
    return bool(unpacker.tell() == len(body))


def array(pieces: list[bytes]) -> bytes:
    return b"".join([_packer().pack_array_header(len(pieces)), *pieces])


def _packer() -> Any:
    return msgpack.Packer()
