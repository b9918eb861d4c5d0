"""Workers that lie to the daemon: their session ends, or the lie means nothing; nobody else notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import warmd
from tests.faults.fuzz import Garbage, examples, on_a_stream
from tests.faults.watch import AT_ONCE_SECONDS, ZOO, error_of, together, within
from warmd.protocol import values, work
from warmd.protocol.messages import PROTOCOL
from warmd.protocol.stream import PREFIX, marked_off
from warmd.protocol.wire import FROM_WORKER
from warmd.protocol.work import Ordinal

pytestmark = pytest.mark.alone

if TYPE_CHECKING:
    from warmd.local import LocalClient  # imported, it would hide the function `warmd.local`

LIES = f"{ZOO.with_name('zoo_liars.py')}:Lies"
THIS = Ordinal(1)
"""The first call of a session, which tells the lie."""
BOUND_SECONDS = 10.0
LIARS = 6
LIVES = {"ok", "APP_ERROR", "INTERNAL", "FUNCTION_NOT_FOUND"}
"""The last but one: what it returned cannot be read; the last: it has said that its functions are others."""
CODES = LIVES | {"WORKER_DIED", "SESSION_DIED", "SESSION_ENDED", "TIMEOUT", "CANCELLED"}
LIE = values.pack("a lie")


def said(*messages: Any) -> bytes:
    return b"".join(bytes(part) for one in messages for part in marked_off(FROM_WORKER.pack(one)))


NONSENSE = {
    "no message": PREFIX.pack(1, 0, 0) + b"\xc1",
    "no header": PREFIX.pack(0, 0, 0),
    "a header over its limit": PREFIX.pack(2**32 - 1, 0, 0),
    "4 GB to come": PREFIX.pack(5, 2**32 - 1, 2**32 - 1),
    "a header and something behind it": PREFIX.pack(60_000, 0, 0) + bytes(60_000),
    "an unknown kind": PREFIX.pack(3, 0, 0) + b"\x92\x63\x01",
    "arrived twice": said(work.Arrived(PROTOCOL, "0", "x" * 64, 1)),
    "a part left out": said(work.Yielded(THIS, 1, LIE)),
    "a part before the first": said(work.Yielded(THIS, -1, LIE)),
    "the last of all parts": said(work.Yielded(THIS, 2**64 - 1, LIE)),
    "parts that never came": said(work.Returned(THIS, 0.0, 5, LIE)),
    "an endless type": said(work.Raised(THIS, 0.0, "x" * 30_000, "x", "x")),
    "more than a failure holds": said(work.Raised(THIS, 0.0, "x", "x" * 40_000, "x" * 25_000)),
    "an endless refusal": said(work.Declined(THIS, "x" * 64_000)),
    "a refusal after a part": said(work.Yielded(THIS, 0, LIE), work.Declined(THIS, "x")),
    "fewer parts than none": said(work.Returned(THIS, 0.0, -1, LIE)),
}
MEANINGLESS = {
    "a call that is over or never was": said(
        *(work.Returned(Ordinal(n), 0.0, 0, LIE) for n in (0, 2, 99, 2**64 - 1))
    ),
    "parts of another call": said(*(work.Yielded(Ordinal(n), 7, LIE) for n in (-1, 0, 2))),
    "an error of another call": said(
        work.Raised(Ordinal(2), 0.0, "x", "x", "x"), work.Interrupted(Ordinal(2), 0.0),
        work.Declined(Ordinal(2), "x"),
    ),
}


@pytest.mark.parametrize("lie", NONSENSE)
def test_a_worker_that_speaks_nonsense_is_dead(client: LocalClient, lie: str) -> None:
    with client.session(LIES) as session, client.session(LIES) as other:
        other.call("run")
        with within(AT_ONCE_SECONDS):
            error = error_of(lambda: session.call("lie", {"data": NONSENSE[lie], "stay_seconds": 30.0}))
        assert (error.code, error.ran) == ("WORKER_DIED", "maybe")
        assert "nonsense" in str(error)
        assert error_of(lambda: session.call("run")).code == "SESSION_DIED"
        assert other.call("run").output == "true"


@pytest.mark.parametrize("lie", MEANINGLESS)
def test_a_word_about_another_call_means_nothing(client: LocalClient, lie: str) -> None:
    with client.session(LIES) as session:
        assert session.call("lie", {"data": MEANINGLESS[lie]}).output == "true"
        assert session.call("run").output == "true"


def test_the_second_answer_to_a_call_means_nothing(client: LocalClient) -> None:
    with client.session(LIES) as session:
        twice = said(work.Returned(THIS, 0.0, 0, LIE), work.Returned(THIS, 0.0, 0, values.pack("another")))
        assert session.call("lie", {"data": twice}).output == "a lie"
        assert session.call("run").output == "true"
        assert session.call("run").output == "true"


def lies() -> dict[str, list[Any]]:
    """Values by field for messages of a worker."""
    return {
        "ordinal": [1, 1, 1, 2, 3, 0, -1, 2**64 - 1],
        "number": [0, 0, 1, -1, 2**64 - 1],
        "parts": [0, 0, 0, 1, -1, 2**63],
        "value": [LIE, b"\xc1", b"\x91" * 1000],
        "token": ["", "x" * 64],
        "functions": [["run"], ["x" * 30_000], []],
        "type": ["x", "", "x" * 30_000],
        "message": ["x", "", "x" * 30_000],
    }


def test_a_worker_that_sends_garbage_harms_only_its_session(unharmed: LocalClient) -> None:
    garbage = Garbage(FROM_WORKER, lies())

    def tell(lines: list[bytes]) -> None:
        with unharmed.session(LIES) as session:
            all(survived(session, data) for data in lines)

    with unharmed.session(LIES) as honest:
        for _ in range(0, examples(24), LIARS):
            # All made here: who is first among threads must not change what a seed gives.
            together(tell, [[a_lie(garbage) for _ in range(8)] for _ in range(LIARS)])
            assert honest.call("run").output == "true"


def a_lie(garbage: Garbage) -> bytes:
    """A few messages or none; in half of the cases what was begun is ended, by what cannot be."""
    random = garbage.random
    pieces = [on_a_stream(garbage.frames(), random) for _ in range(random.randrange(1, 9))]
    return b"".join(pieces) + bytes(random.choice([0, 200_000]))


def survived(session: warmd.Session, data: bytes) -> bool:
    """Has the worker send it; whether the session lives on.  Of its own calls it may say anything."""
    code = "ok"
    with within(BOUND_SECONDS):
        try:
            session.call("lie", {"data": data}, timeout=1)
            session.call("run", timeout=1)
        except warmd.WarmdError as error:
            code = error.code
    assert code in CODES, code
    return code in LIVES
