"""Two usual ways to choose whom to park, in the place of the rule book's own, to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager as Manager
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

from warmd.daemon.core import placement, policy
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import GpuId
from warmd.daemon.core.session import Phase, Session

Order = Callable[[Book, Session], float]


def our_own() -> Manager[None]:
    return nullcontext()


def least_recently_used() -> Manager[None]:
    return _plain(lambda book, session: session.idle_since if session.phase is Phase.IDLE else book.now)


def first_in_first_out() -> Manager[None]:
    return _plain(lambda _, session: placement.tenancy_of(session).resident_since)


@contextmanager
def _plain(order: Order) -> Iterator[None]:
    """The same admission; but whoever comes first in this order goes, and waiting calls are not gathered."""

    def chosen(book: Book, gpu: GpuId, tenants: list[Session], short: int) -> tuple[list[Session], int]:
        gone = []
        for tenant in sorted(tenants, key=lambda one: order(book, one)):
            if short > 0:
                gone.append(tenant)
                short -= placement.frees(book, tenant, gpu)
        return gone, short

    with patch.object(placement, "_chosen", chosen), patch.object(policy, "YIELD_AFTER_SECONDS", 0.0):
        yield
