"""Values in lent memory: whoever has one has it for good, whatever others do with the memory meanwhile."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import warmd
from tests.faults.lentmemory import lent_in
from tests.faults.watch import begun, error_of, together, until

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from warmd.owndaemon import LocalClient
    from warmd.session import Session

ECHO = f"{Path(__file__).parents[1] / 'zoo_lent.py'}:Echo"
SIZE = 1 << 18
ROUNDS, HELD = 60, 20
MORE = 6
"""Calls after which memory that is free would have been used again."""


@pytest.fixture
def other(client: LocalClient) -> Iterator[warmd.Client]:
    """A client of the test's own, whose lane and memory go with it."""
    with warmd.Client(client.address) as other:
        yield other


@pytest.fixture
def session(other: warmd.Client) -> Session:
    session = other.session(ECHO)
    session.call("total", np.zeros(SIZE))  # with the second large value the lane is there
    return session


def of(number: int, size: int = SIZE) -> NDArray[np.int64]:
    """An array like no other, of bytes that follow its number."""
    return np.arange(number, number + size // 8)


def use_again(session: Session) -> None:
    """Have all memory that is free filled with something else."""
    results = [session.call("echo", of(10**6 + number)).output for number in range(MORE)]
    del results


@contextmanager
def forked() -> Iterator[tuple[int, int, int]]:
    """A child and two pipes, to tell it and to hear of it; in the child the pid is 0."""
    (told, tell), (hear, say) = os.pipe(), os.pipe()
    child = os.fork()
    try:
        yield (child, told, say) if child == 0 else (child, tell, hear)
    finally:
        if child == 0:
            os._exit(1)
        for fd in (told, tell, hear, say):
            os.close(fd)
        os.waitpid(child, 0)


# Many at once


class Hoard:
    """Results of which each must be what it was, until it is thrown away."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._numbers = itertools.count(seed * 10**6)
        self._held: dict[int, Any] = {}

    def another(self) -> tuple[int, Any]:
        """An array, or a view of one, and its number."""
        number = next(self._numbers)
        array = of(number, self.random.choice([SIZE // 2, SIZE, 3 * SIZE]) + 16 * self.random.randrange(999))
        return number, self.random.choice([array, array[::-1], np.asfortranarray(array.reshape(2, -1))])

    def add(self, number: int, sent: Any, came: Any) -> None:
        assert np.array_equal(came, sent), number
        if self.random.random() < 0.5:
            return
        if self.random.random() < 0.3:
            came += 1  # its own, and nobody else's
            came -= 1
        self._held[number] = (came, sent)
        while len(self._held) > HELD:
            self.check(self.random.choice([*self._held]))

    def check(self, number: int) -> None:
        came, sent = self._held.pop(number)
        assert np.array_equal(came, sent), f"array {number} has changed"

    def check_all(self) -> None:
        for number in self.random.sample([*self._held], len(self._held)):
            self.check(number)


def test_every_array_is_its_own_for_many_threads_and_sessions(client: LocalClient) -> None:
    with warmd.Client(client.address) as one, warmd.Client(client.address) as two:
        sessions = [client.session(ECHO).id for client in (one, one, two)]

        def work(seed: int) -> None:
            hoard, client = Hoard(seed), (one, two)[seed % 2]
            for _ in range(ROUNDS):
                session = client.session(id=hoard.random.choice(sessions))
                number, sent = hoard.another()
                hoard.add(number, sent, session.call("echo", sent).output)
            hoard.check_all()

        together(work, range(4))


async def test_every_array_is_its_own_for_many_tasks(client: LocalClient) -> None:
    async with warmd.AsyncClient(client.address) as aio:
        sessions = [await aio.session(ECHO) for _ in range(2)]

        async def work(seed: int) -> None:
            hoard = Hoard(seed)
            for _ in range(ROUNDS // 2):
                number, sent = hoard.another()
                hoard.add(number, sent, (await sessions[seed % 2].call("echo", sent)).output)
            hoard.check_all()

        await asyncio.gather(*map(work, range(8)))
        for session in sessions:
            await session.end()


def test_results_that_only_the_collector_frees_are_their_own_too(session: Session) -> None:
    """It runs in the midst of everything: of filling memory, of sending, of another's finalizer."""
    hoard, before = Hoard(1), gc.get_threshold()
    gc.set_threshold(7)
    try:
        for _ in range(ROUNDS):
            number, sent = hoard.another()
            ring: list[Any] = [session.call("echo", sent).output]
            ring.append(ring)
            hoard.add(number, sent, session.call("echo", sent).output)
    finally:
        gc.set_threshold(*before)
    hoard.check_all()


# Who writes


def test_what_an_app_writes_into_its_input_nobody_else_sees(session: Session) -> None:
    mine = of(1)
    for _ in range(MORE):
        assert np.array_equal(session.call("add_one", mine).output, of(2))
        assert session.call("total", mine).output == of(1).sum()
    assert np.array_equal(mine, of(1))


def test_what_is_written_into_an_array_after_its_call_has_begun_is_not_sent(
    session: Session, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    mine = of(1)
    running = begun(session.submit("wait", {"value": mine, "pipe": str(pipe)}))
    queued = [session.submit("echo", mine) for _ in range(40)]
    mine[:] = 0
    pipe.write_text("go on")
    assert all(np.array_equal(call.result().output, of(1)) for call in (running, *queued))


async def test_what_is_written_before_a_streams_first_step_is_not_sent(client: LocalClient) -> None:
    """It begins at the first step; its input is that of its making, whatever its size."""
    async with warmd.AsyncClient(client.address) as aio, aio.session(ECHO) as session:
        for size in (8, SIZE, SIZE):
            mine = of(1, size)
            stream = session.stream("echo", mine)
            mine[:] = 0
            assert [int(value[0]) async for value in stream] == [1]


def test_what_a_client_writes_into_a_result_nobody_else_sees(session: Session) -> None:
    call = session.submit("echo", of(3))
    for _ in range(2):
        first, second = call.result().output, call.result().output
        first[:] = 0
        assert np.array_equal(second, of(3))
        second[:] = 1
        del first, second
    assert np.array_equal(call.result().output, of(3))


def test_what_a_reader_of_a_detached_call_writes_into_its_copy_no_other_sees() -> None:
    with warmd.testing.daemon() as own, warmd.Client(own.address) as other:
        detached = own.submit(app=ECHO, function="echo", input=of(4), detach=True).call_id
        readers = [client.calls.attach(detached) for client in (own, own, other)]
        arrays = [next(reader) for reader in readers]
        for number, array in enumerate(arrays):
            array[:] = number
        assert [{*array.tolist()} for array in arrays] == [{0}, {1}, {2}]
        assert np.array_equal(other.calls.result(detached).output, of(4))


# Apps that hold on to what they were given


def test_inputs_that_an_app_keeps_stay_as_they_were(session: Session) -> None:
    for number in range(12):
        assert session.call("keep", of(number)).output == number + 1
    for left in range(12, 0, -1):
        assert session.call("totals").output == [of(number).sum() for number in range(left)]
        session.call("drop", -1)
    session.call("keep", of(99))
    use_again(session)
    assert session.call("totals").output == [of(99).sum()]


@pytest.mark.parametrize("function", ["changing", "parts_of"])
def test_parts_are_what_they_were_when_they_were_yielded(session: Session, function: str) -> None:
    given = {"size": SIZE} if function == "changing" else {"value": np.zeros(SIZE, "u1")}
    for number, part in enumerate(session.stream(function, {**given, "count": 600})):
        assert {*part[:: SIZE // 16].tolist()} == {number % 251}
        assert part.size >= SIZE - 1
    late = list(session.stream(function, {**given, "count": 40}))
    use_again(session)
    assert [{*part.tolist()} for part in late] == [{number} for number in range(40)]


def test_a_child_that_an_app_forks_keeps_its_input(session: Session, tmp_path: Path) -> None:
    """Though its parent has given the answer, and the memory of the input back."""
    pipe, told = tmp_path / "pipe", tmp_path / "told"
    os.mkfifo(pipe)
    session.call("fork", {"value": np.full(SIZE, 7), "pipe": str(pipe), "path": str(told)})
    use_again(session)
    pipe.write_text("look")
    until(lambda: told.exists() and told.read_text())
    assert told.read_text() == "[7]"


def test_children_that_an_app_forks_work_on_its_input(session: Session) -> None:
    for number in range(3):
        assert session.call("in_children", of(number)).output == [of(number).sum()] * 4


# Clients that hold on to what they were given


def test_a_child_that_a_client_forks_keeps_its_results(session: Session) -> None:
    result = session.call("echo", of(5)).output
    with forked() as (child, tell, hear):
        if child == 0:
            mine = session.call("echo", of(6)).output
            os.write(hear, b"ready")
            os.read(tell, 1)
            os.write(hear, b"same" if np.array_equal(result, of(5)) and np.array_equal(mine, of(6)) else b"-")
            os._exit(0)
        assert os.read(hear, 5) == b"ready"
        del result
        use_again(session)
        os.write(tell, b"x")
        assert os.read(hear, 4) == b"same"


def test_a_child_keeps_no_memory_that_its_parent_has_mapped_and_does_not_use(session: Session) -> None:
    use_again(session)
    with forked() as (child, tell, hear):
        if child == 0:
            gc.collect()
            os.write(hear, b"%d" % lent_in(os.getpid()).segments)
            os._exit(0)
        assert os.read(hear, 9) == b"0"
    assert tell


def test_a_result_that_the_main_thread_drops_is_handed_back_with_what_it_sends_next(
    session: Session, other: warmd.Client
) -> None:
    """Not by the finalizer: a Ctrl-C that strikes in one is lost.  Other threads have none."""
    results = [session.call("echo", of(number)).output for number in range(3)]
    link = other._link
    assert link is not None and link.transport.lane is not None
    other.status()
    done_with, sent = link.transport.lane.done_with, []
    link.transport._send, send = (lambda *args: sent.append(args) or send(*args)), link.transport._send
    results.pop()
    assert (len(done_with), sent) == (1, [])
    other.status()
    assert not done_with
    sent.clear()
    thread = threading.Thread(target=results.clear)
    thread.start()
    thread.join()
    assert not done_with and len(sent) == 2


@pytest.mark.parametrize("how", ["closed", "forgotten", "lost"])
def test_results_outlive_their_client(client: LocalClient, session: Session, how: str) -> None:
    own = warmd.Client(client.address)
    mine = own.session(id=session.id)
    results = [mine.call("echo", of(number)).output for number in range(4)]
    if how == "closed":
        own.close()
    elif how == "lost":
        link = own._link
        assert link is not None
        link.transport._socket.close(0)
    del own, mine
    if how == "lost":
        until(lambda: client.status().clients == 2)
    for _ in range(2):
        use_again(session)
    assert all(np.array_equal(result, of(number)) for number, result in enumerate(results))
    if how == "lost":
        link.transport.close()


def test_results_outlive_their_worker_and_their_daemon(tmp_path: Path) -> None:
    with warmd.testing.daemon() as own:
        results = []
        for number, session in enumerate([own.session(ECHO), own.session(ECHO)]):
            session.call("echo", of(0))
            results.append(session.call("echo", of(number)).output)
        pid = own.sessions.list()[0].pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: len(own.sessions.list()) == 1)
        os.kill(own.daemon_pid, signal.SIGKILL)
        assert error_of(own.status).code in ("DAEMON_LOST", "DAEMON_UNAVAILABLE")
        gc.collect()
        assert all(np.array_equal(result, of(number)) for number, result in enumerate(results))
        assert tmp_path
