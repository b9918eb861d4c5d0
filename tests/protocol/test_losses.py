"""What is said of the calls and requests of a connection that is lost."""

from __future__ import annotations

import pytest

from warmd.daemon.verbs import VERBS
from warmd.protocol.exchange import READING, Exchange
from warmd.protocol.messages import PROTOCOL, Attach, Call, CallId, Hello, Request

ID, OTHER = CallId(b"i" * 16), CallId(b"o" * 16)
LOST = "the connection to the daemon is lost: it ended"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Call(ID, "sess_1", None, "run"), f"{LOST}; it may have run"),
        (Request(ID, "sessions.end", {}), f"{LOST}; it may have run"),
        (Request(ID, "logs", {}), LOST),
        (Attach(ID, OTHER, 0, None), LOST),
    ],
)
def test_nobody_is_told_that_what_only_reads_may_have_run(
    message: Call | Request | Attach, said: str
) -> None:
    exchange = Exchange(Hello(PROTOCOL, "1.2.3", 1, "test"))
    pending = exchange.begin(message, 0.0, None)
    pending.sent = True
    exchange.connection_lost("it ended", 1.0)
    assert pending.problem is not None and pending.problem.message == said


def test_what_only_reads_are_verbs() -> None:
    assert READING.issubset(VERBS)
