"""What processes hold of lent memory: segments, open or mapped, and descriptors that are on their way."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

import warmd
from warmd.owndaemon import LocalClient

_MAPPED = re.compile(r"\S+ \S+ \S+ \S+ (\d+) +/memfd:warmd-lent")
_ON_THEIR_WAY = re.compile(r"^scm_fds:\s*(\d+)$", re.MULTILINE)


class Lent(NamedTuple):
    """`bytes` are those that are there, counted once however many have them open."""

    segments: int = 0
    descriptors: int = 0
    on_their_way: int = 0
    bytes: int = 0


NOTHING = Lent()


def lent_in(*pids: int) -> Lent:
    """What these processes hold, all together; those that have ended hold nothing."""
    sizes: dict[int, int] = {}
    descriptors = on_their_way = 0
    for pid in pids:
        for path, target in _descriptors(pid):
            # Of a descriptor that was closed meanwhile there is nothing to be told.
            with contextlib.suppress(OSError):
                if target.startswith("/memfd:warmd-lent"):
                    found = os.stat(path)
                    sizes[found.st_ino] = found.st_blocks * 512
                    descriptors += 1
                elif target.startswith("socket:"):
                    told = Path(str(path).replace("/fd/", "/fdinfo/")).read_text()
                    on_their_way += sum(map(int, _ON_THEIR_WAY.findall(told)))
        with contextlib.suppress(OSError):
            for inode in _MAPPED.findall(Path(f"/proc/{pid}/maps").read_text()):
                sizes.setdefault(int(inode), 0)
    return Lent(len(sizes), descriptors, on_their_way, sum(sizes.values()))


def _descriptors(pid: int) -> Iterator[tuple[Path, str]]:
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield path, os.readlink(path)


def daemon_and_workers(client: LocalClient) -> list[int]:
    """The processes that may hold anything for anybody."""
    daemon = psutil.Process(client.daemon_pid)
    return [daemon.pid, *(child.pid for child in daemon.children(recursive=True))]


def lends(client: warmd.Client) -> bool:
    """Whether the client waits for memory to be handed back; after it has read what came."""
    link = client._link
    assert link is not None and link.transport.lane is not None
    with link._mutex:
        link.transport.flush()
        link.transport.pump()
    return any(segment.lent for segment in link.transport.lane.pool._segments.values())


def has_lane(client: warmd.Client) -> bool:
    """Whether the daemon has the lane that the client's first large value opened: then results are lent."""
    link = client._link
    assert link is not None and link.transport.lane is not None
    with link._mutex:
        return link.transport.lane._is_open()
