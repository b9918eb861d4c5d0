"""What there is too little of for many sessions is told before they are started."""

from __future__ import annotations

import os
import resource

import pytest

from benchmarks import room
from benchmarks.peers import Unavailable


def reasons(sessions: int) -> str:
    return "; ".join(room.lacking(sessions))


def test_a_few_have_room() -> None:
    room.check(1)


def test_max_sessions_has_a_limit() -> None:
    assert "max_sessions" not in reasons(room.MOST_SESSIONS)
    assert "max_sessions" in reasons(room.MOST_SESSIONS + 1)


def test_all_that_is_lacking_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (1024, 4096), resource.RLIMIT_NPROC: (500, 500)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(room, "_available_bytes", lambda: 2**30)
    with pytest.raises(Unavailable) as told:
        room.check(1000)
    assert "1000 sessions have no room" in str(told.value)
    assert "needs 8200 descriptors and may have 4096 (ulimit -Hn)" in str(told.value)
    assert "4512 MiB of memory, 1024 MiB are available" in str(told.value)
    assert "ulimit -u" in str(told.value)
    assert reasons(100).count(";") == 0


def test_no_limit_is_no_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: endless)
    assert "descriptors" not in reasons(10**6)
