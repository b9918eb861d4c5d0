"""Help for the tests of programs that use warmd.

with warmd.testing.daemon() as client:
    assert client.run(app="counter", session="new").output == {"n": 1}
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from warmd.owndaemon import LocalClient, local


@contextmanager
def daemon(**settings: object) -> Iterator[LocalClient]:
    """A daemon for one test or one fixture, and its client; `settings` as in `warmd.local`.

    Sessions end after 10 s without a call unless set otherwise: a test that fails holds nothing long.
    """
    with local(**{"session_timeout": 10, **settings}) as client:
        yield client
