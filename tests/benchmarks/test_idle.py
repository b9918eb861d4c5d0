"""The row of many idle sessions, with a few of them: all its figures are there, and of the right session."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import pytest

import warmd
from benchmarks.rows import SMOKE, idle
from benchmarks.rows.idle import ManyIdle

FEW = dataclasses.replace(SMOKE, rounds=1, slow_rounds=1, calls=2, idle_sessions=3, idle_seconds=0.05)


@pytest.fixture(scope="module")
def row() -> Iterator[ManyIdle]:
    row = ManyIdle(FEW)
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(idle, "SETTLE_SECONDS", 0.0)
        row.open(stack)
        yield row


def test_it_reports_all_its_figures(row: ManyIdle) -> None:
    row.measure()
    reports = {report.key: report for report in row.reports()}
    assert list(reports) == ["idle", "idle-starts", "idle-ps", "idle-memory", "idle-cpu"]
    assert [len(report.lines) for report in reports.values()] == [2, 3, 4, 3, 2]
    for key in ("idle", "idle-starts", "idle-ps", "idle-memory"):
        assert all(line.value > 0 for line in reports[key].lines)
    targets = [target for report in reports.values() for target in report.targets]
    assert [target.verdict for target in targets].count("not measured") == 0 and len(targets) == 3
    assert len(set(row.pids)) == 3


def test_a_listing_that_lacks_a_session_is_no_figure(row: ManyIdle) -> None:
    idle.listed(row.many, 3)
    with pytest.raises(ValueError, match="tells of 3 sessions, there are 4"):
        idle.listed(row.many, 4)


def test_as_many_sessions_as_asked_for_are_started() -> None:
    with warmd.local() as client:
        sessions, report = idle.started(client, 11, lambda: None)
        assert len(set(sessions)) == len(client.sessions.list()) == 11
    assert report.title.startswith("11 new sessions")
