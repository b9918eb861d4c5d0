"""Clients, workers and daemons that are killed anywhere in the midst of large values: others have their
answers and go on, and of the memory that was lent nothing is left."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import warmd
from tests.faults.lentmemory import NOTHING, daemon_and_workers, has_lane, lends, lent_in
from tests.faults.watch import AT_ONCE_SECONDS, begun, error_of, together, undisturbed, until, within
from warmd.protocol import mappings, segments

pytestmark = pytest.mark.alone

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from warmd.calls import Submitted
    from warmd.owndaemon import LocalClient
    from warmd.protocol.parcels import Leaves

TESTS = Path(__file__).parents[1]
ECHO = f"{TESTS / 'zoo_lent.py'}:Echo"
SIZE = 1 << 18
KEPT_SECONDS = 0.2
"""As in the zoo, which must not be imported here: it sees to that for its whole process."""
AT_A_TIME = 4
MOMENTS = 25
MOST_SECONDS = 0.004
"""A large call takes less."""
SEED = 21

WORKS = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import numpy as np, warmd, zoo_lent
address, id, point = sys.argv[1:]
client = warmd.Client(address)
session = client.session(id=id)
zoo_lent.die_at(point)
held = []
for number in range(100):
    held.append(session.call("echo", np.full({SIZE}, number, "u1")).output)
    del held[:-3]
    held += session.stream("parts_of", {{"value": np.zeros({SIZE}, "u1"), "count": 3}})
"""
"""A client that is killed where it is told to."""
IN_CLIENT = [
    f"{name} {when} {nth}"
    for name in (
        "warmd.lane:Lane._connect",
        "warmd.lane:Lane._send",
        "warmd.lane:Lane._receive",
        "warmd.lane:Lane.borrow",
        "warmd.protocol.segments:Pool.lend",
        "warmd.protocol.mappings:Mappings._map",
        "warmd.protocol.exchange:Exchange.hand_back",
        "warmd.transport:Transport.flush",
    )
    for when in ("before", "after")
    for nth in ((1,) if name.endswith("_connect") else (2,))
]
IN_WORKER = [
    f"{name} {when} 3"
    for name in (
        "warmd.daemon.worker.link:Link._borrow",
        "warmd.daemon.worker.link:Link._lend",
        "warmd.daemon.worker.link:Link._send_all",
        "warmd.daemon.worker.link:Link._parse",
        "warmd.protocol.mappings:Mappings._map",
        "warmd.protocol.segments:Pool.handed_back",
    )
    for when in ("before", "after")
]
IN_DAEMON = [
    f"{name} {when} 3"
    for name in (
        "warmd.daemon.lanes:Lanes.received",
        "warmd.daemon.lanes:Lanes.parted",
        "warmd.daemon.loans:Holder.give",
        "warmd.daemon.loans:Holder.take_back",
    )
    for when in ("before", "after")
]
DYING_DAEMON = f"""
import os, sys
if "serve" in sys.orig_argv:
    sys.path.insert(0, {str(TESTS)!r})
    import zoo_lent
    zoo_lent.die_at(os.environ["DIES_AT"])
"""


@pytest.fixture
def own(client: LocalClient) -> Iterator[warmd.Client]:
    """A client of the test's own.  Afterwards nobody who lives on has anything of lent memory."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (segments, mappings):
            patch.setattr(module, "KEPT_SECONDS", KEPT_SECONDS)
        with warmd.Client(client.address) as own:
            yield own
    nothing_is_left(client)


def nothing_is_left(client: LocalClient) -> None:
    until(lambda: lent_in(client.daemon_pid) == NOTHING, AT_ONCE_SECONDS)
    until(lambda: lent_in(*daemon_and_workers(client)) == NOTHING, 5.0)


def of(number: int) -> NDArray[np.int64]:
    return np.arange(number, number + SIZE // 8)


def in_batches(work: Callable[[str], object], items: Sequence[str]) -> None:
    for first in range(0, len(items), AT_A_TIME):
        together(work, items[first : first + AT_A_TIME])


# Clients


def test_a_client_that_is_killed_anywhere_leaves_nothing_and_disturbs_nobody(
    client: LocalClient, own: warmd.Client
) -> None:
    def one(point: str) -> None:
        session = own.session(ECHO)
        command = [sys.executable, "-c", WORKS, client.address, session.id, point]
        died = subprocess.run(command, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL, "it did not come to that point"
        assert np.array_equal(session.call("echo", of(7)).output, of(7))
        pid = session.info().pid
        until(lambda: lent_in(pid) == NOTHING)

    with undisturbed(client.address):
        in_batches(one, IN_CLIENT)
    until(lambda: client.status().clients == 2)


# Workers


def last_words(session: warmd.Session) -> warmd.WarmdError:
    """Calls it until it ends, and looks whether all that came before is right."""
    results = []

    def work() -> None:
        for number in range(50):
            results.append(session.call("echo", of(number)).output)
            parts = session.stream("parts_of", {"value": of(number), "count": 3})
            assert [part[0] for part in parts] == [0, 1, 2]

    error = error_of(work)
    assert all(np.array_equal(result, of(number)) for number, result in enumerate(results))
    return error


def test_a_worker_that_is_killed_anywhere_ends_its_calls_and_hands_back_their_memory(
    client: LocalClient, own: warmd.Client
) -> None:
    def one(point: str) -> None:
        error = last_words(own.session(ECHO, setup=point))
        assert (error.code, error.ran) in {("WORKER_DIED", "maybe"), ("SESSION_DIED", "no")}

    with undisturbed(client.address):
        in_batches(one, IN_WORKER)
    own.status()
    until(lambda: not lends(own), AT_ONCE_SECONDS)


def end_of(call: Submitted, expected: NDArray[np.int64]) -> tuple[str, str]:
    try:
        assert np.array_equal(call.result().output, expected)
    except warmd.WarmdError as error:
        return error.code, error.ran
    return "ok", "yes"


def test_a_worker_that_is_killed_at_any_moment_of_a_large_call(
    client: LocalClient, own: warmd.Client
) -> None:
    moments, ends = random.Random(SEED), set()
    with undisturbed(client.address):
        for _ in range(MOMENTS):
            session = own.session(ECHO)
            session.call("echo", of(1))
            pid = session.info().pid
            call, seconds = session.submit("echo", of(2)), moments.uniform(0, MOST_SECONDS)
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
            ends.add(end_of(call, of(2)))
    assert ends <= {("ok", "yes"), ("WORKER_DIED", "maybe"), ("SESSION_DIED", "no")}
    assert ("ok", "yes") in ends and len(ends) > 1, "the moments were too early or too late"
    until(lambda: not lends(own), AT_ONCE_SECONDS)


def test_the_memory_of_a_queue_is_handed_back_when_its_worker_is_killed(
    client: LocalClient, own: warmd.Client, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    doomed, other = own.session(ECHO), own.session(ECHO)
    doomed.call("echo", of(0))
    running = begun(doomed.submit("wait", {"value": of(1), "pipe": str(pipe)}))
    queued = [doomed.submit("echo", of(number)) for number in range(segments.MOST_SEGMENTS + 8)]
    assert lends(own)
    assert np.array_equal(other.call("echo", of(2)).output, of(2)), "what cannot be lent is sent"
    with undisturbed(client.address):
        os.kill(doomed.info().pid, signal.SIGKILL)
        with within(AT_ONCE_SECONDS):
            assert (error_of(running.result).code, running.status().ran) == ("WORKER_DIED", "maybe")
            errors = [error_of(call.result) for call in queued]
    assert {(error.code, error.ran) for error in errors} == {("SESSION_DIED", "no")}
    until(lambda: not lends(own), AT_ONCE_SECONDS)
    assert np.array_equal(other.call("echo", of(3)).output, of(3))
    assert lends(own) or lent_in(os.getpid()).segments, "it lends again"


@pytest.mark.parametrize("kind", ["Echo", "Waits"])
def test_memory_that_comes_back_late_is_let_go_too(own: warmd.Client, kind: str) -> None:
    """When its worker has stopped looking for what it can let go."""
    session = own.session(ECHO.replace("Echo", kind))
    session.call("filled", {"number": 0, "size": SIZE})
    until(lambda: has_lane(own))
    result = session.call("filled", {"number": 1, "size": SIZE}).output
    pid = session.info().pid
    until(lambda: lent_in(pid).segments == 1)
    time.sleep(2 * KEPT_SECONDS)
    assert lent_in(pid).segments == 1
    del result
    own.status()
    until(lambda: lent_in(pid) == NOTHING, 5.0)


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_an_interrupted_call_leaves_nothing_lent(own: warmd.Client, frame: int) -> None:
    """Nobody knows whether the daemon has heard of it, and will hand its memory back."""
    session = own.session(ECHO)
    session.call("echo", of(0))
    assert own._link is not None
    transport, frames = own._link.transport, iter(range(100))
    send = transport._send

    def torn(*args: object) -> object:
        if next(frames) == frame:
            raise KeyboardInterrupt
        return send(*args)

    transport._send = torn
    with contextlib.suppress(KeyboardInterrupt):
        session.call("echo", of(1))
    assert np.array_equal(session.call("echo", of(2)).output, of(2))
    until(lambda: not lends(own), AT_ONCE_SECONDS)


def test_a_call_that_is_interrupted_before_its_message_is_made_leaves_nothing_lent(
    own: warmd.Client,
) -> None:
    session = own.session(ECHO)
    session.call("echo", of(0))
    assert own._link is not None and own._link.transport.lane is not None
    pool = own._link.transport.lane.pool
    lend = pool.lend

    def interrupted(leaves: Leaves) -> object:
        lend(leaves)
        pool.lend = lend  # type: ignore[method-assign]
        raise KeyboardInterrupt

    pool.lend = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        session.call("echo", of(1))
    assert np.array_equal(session.call("echo", of(2)).output, of(2))
    until(lambda: not lends(own), AT_ONCE_SECONDS)


# Daemons


def test_a_daemon_that_is_killed_anywhere_takes_no_result_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DYING_DAEMON)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    before = lent_in(os.getpid())

    def one(point: str) -> None:
        monkeypatch.setenv("DIES_AT", point)
        with warmd.testing.daemon() as own:
            session, results = own.session(ECHO), dict[int, Any]()
            pid = session.info().pid

            def work() -> None:
                for number in range(50):
                    results[number] = session.call("echo", of(number)).output
                    results.pop(number - 5, None)

            ended = error_of(work)
            assert ended.code == "DAEMON_LOST" or (ended.code, ended.ran) == ("DAEMON_UNAVAILABLE", "no")
            died = os.waitid(os.P_PID, own.daemon_pid, os.WEXITED | os.WNOWAIT)
            assert died is not None and died.si_status == signal.SIGKILL
            until(lambda: lent_in(pid) == NOTHING, AT_ONCE_SECONDS)
        assert results
        assert all(np.array_equal(result, of(number)) for number, result in results.items())

    for point in IN_DAEMON:
        one(point)
        gc.collect()
        assert lent_in(os.getpid()) == before


# Clients that do not read

COUNT, PART_BYTES = 60, 4 << 20
MOST_BYTES = 96 << 20
STOPS = f"""
import os, signal, sys, warmd
client = warmd.Client(sys.argv[1])
session = client.session(id=sys.argv[2])
session.call("filled", {{"number": 0, "size": {SIZE}}})
parts = session.stream("changing", {{"count": {COUNT}, "size": {PART_BYTES}}})
first = next(parts)
print("stopping", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
read = 1
for part in parts:
    assert (part == read).all() and part.size >= {PART_BYTES - 1}, read
    read += 1
print(read, flush=True)
"""


def test_a_client_that_is_stopped_in_a_stream_of_large_parts_costs_a_bounded_memory(
    client: LocalClient, own: warmd.Client
) -> None:
    session = own.session(ECHO)
    command = [sys.executable, "-c", STOPS, client.address, session.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stopped:
        assert stopped.stdout is not None and stopped.stdout.readline() == "stopping\n"
        pids, seen = [client.daemon_pid, session.info().pid, stopped.pid], [0]

        def stands() -> bool:
            seen.append(lent_in(*pids).bytes)
            return len(seen) > 20 and len({*seen[-20:]}) == 1

        with undisturbed(client.address):
            until(stands)
        assert 0 < max(seen) < MOST_BYTES
        stopped.send_signal(signal.SIGCONT)
        assert stopped.stdout.readline() == f"{COUNT}\n"
