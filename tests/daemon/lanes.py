"""Lanes of a daemon that lends nothing, for tests of what else clients do."""

from __future__ import annotations

from warmd.daemon.lanes import Lanes
from warmd.daemon.loans import Loans
from warmd.daemon.loop import Loop


def no_lanes(loop: Loop) -> Lanes:
    return Lanes(Loans(loop, 0), lambda: None)
