"""Odd uses of a client: after a fork, by many threads, at exit, interrupted, cancelled.  No answer is ever
another's, and nothing hangs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

import warmd
from tests.faults.test_clients import VISITS
from tests.faults.watch import AT_ONCE_SECONDS, together, within, zoo

if TYPE_CHECKING:
    from warmd.owndaemon import LocalClient
    from warmd.session import Session
    from warmd.transport import Transport

THREADS, CALLS = 16, 50
EXIT_SECONDS = 2.0


@pytest.fixture
def session(client: LocalClient) -> Session:
    return client.session(VISITS)


# After a fork

FORKING = """
import os, sys, warmd
address, id = sys.argv[1:]
client = warmd.Client(address)
session = client.session(id=id)
open_call = session.submit("stay", {"name": "parents", "seconds": 1.0})
child = os.fork()
mine = "child" if child == 0 else "parent"
for n in range(50):
    assert session.call("enter", f"{mine} {n}").output == f"{mine} {n}"
if child == 0:
    try:
        open_call.result(5)
    except warmd.DaemonLost as error:
        os._exit(7 if error.ran == "maybe" else 8)
    os._exit(9)
assert open_call.result(10).output == "parents"
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_after_a_fork_both_get_their_own_answers(client: LocalClient, session: Session) -> None:
    command = [sys.executable, "-c", FORKING, client.address, session.id]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout == "7\n", "the child is told whose answer it asked for"
    seen = session.call("seen").output
    for who in ("parent", "child"):
        assert [name for name in seen if name.startswith(f"{who} ")] == [f"{who} {n}" for n in range(50)]


# By many threads


def test_each_of_many_threads_gets_its_own_answers(session: Session) -> None:
    def work(thread: int) -> None:
        for n in range(CALLS):
            name = f"{thread}.{n}"
            assert session.call("enter", name).output == name

    together(work, range(THREADS))
    seen = session.call("seen").output
    assert len(seen) == THREADS * CALLS, "each ran once"
    for thread in range(THREADS):
        mine = [name for name in seen if name.startswith(f"{thread}.")]
        assert mine == [f"{thread}.{n}" for n in range(CALLS)], "in its own order"


def test_threads_that_stream_and_call_at_once_do_not_mix(client: LocalClient) -> None:
    def work(thread: int) -> None:
        with client.session(zoo("Good")) as own:
            assert list(own.stream("count_up", 200)) == list(range(200))
            assert own.call("add", {"a": thread, "b": 1}).output == thread + 1

    together(work, range(8))


# At the interpreter's exit

HEAD = """
import atexit, sys, threading, time, warmd
address, id = sys.argv[1:]
client = warmd.Client(address)
session = client.session(id=id)
"""
EXITS = {
    "submitted": 'session.submit("stay", {"name": "x", "seconds": 60})',
    "half read": 'stream = session.stream("stream", {"path": "/dev/null"}); next(stream)',
    "in atexit": 'atexit.register(lambda: session.call("enter", "late"))\nclient.status()',
    "daemon thread": """
call = session.submit("stay", {"name": "x", "seconds": 60})
threading.Thread(target=call.result, daemon=True).start()
time.sleep(0.1)
""",
    "raising": 'session.submit("stay", {"name": "x", "seconds": 60})\nsys.exit(5)',
    "unclosed asyncio": """
import asyncio
async def go():
    one = warmd.AsyncClient(address)
    await one.submit(session=id, function="stay", input={"name": "x", "seconds": 60})
asyncio.run(go())
""",
}


@pytest.mark.parametrize("name", EXITS)
def test_a_program_ends_at_once_whatever_is_under_way(
    client: LocalClient, session: Session, name: str
) -> None:
    command = [sys.executable, "-c", HEAD + EXITS[name], client.address, session.id]
    began = time.monotonic()
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert time.monotonic() - began < EXIT_SECONDS
    assert said.returncode == (5 if name == "raising" else 0)
    assert said.stderr == ""
    assert client.status().version == warmd.__version__


# Ctrl-C


def test_ctrl_c_ends_the_wait_and_the_client_stays_of_use(session: Session) -> None:
    for how in (signal.SIGINT, signal.SIGINT):
        timer = threading.Timer(0.3, lambda how=how: os.kill(os.getpid(), how))  # type: ignore[misc]
        timer.start()
        with within(0.3 + AT_ONCE_SECONDS), pytest.raises(KeyboardInterrupt):
            session.call("stay", {"name": "long", "seconds": 60})
        timer.join()
        with within(AT_ONCE_SECONDS + 1.0):
            assert session.call("enter", "next").output == "next", "the call was cancelled"
    assert session.call("seen").output == ["long", "next"] * 2


def interrupt(transport: Transport, method: str, frame: int, when: str) -> None:
    """Ctrl-C strikes just before or after this frame is sent or received."""
    through, frames = getattr(transport, method), iter(range(100))

    def torn(*args: object) -> object:
        is_it = next(frames) == frame
        if is_it and when == "before":
            raise KeyboardInterrupt
        done = through(*args)
        if is_it:
            raise KeyboardInterrupt
        return done

    setattr(transport, method, torn)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("frame", [0, 1])
def test_a_message_that_ctrl_c_tears_apart_is_none(
    client: LocalClient, session: Session, frame: int, when: str
) -> None:
    """pyzmq looks for signals before and after each frame; what comes next is not taken for the rest."""
    with warmd.Client(client.address) as own:
        mine = own.session(id=session.id)
        mine.call("enter", "first")
        assert own._link is not None
        transport = own._link.transport
        interrupt(transport, "_send", frame, when)
        with pytest.raises(KeyboardInterrupt):
            mine.call("enter", "torn")
        assert mine.call("enter", "next").output == "next"
        assert mine.call("seen").output in (["first", "next"], ["first", "torn", "next"])
        assert own._link.transport is transport, "the connection is the same"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("frame", [0, 1])
def test_what_ctrl_c_tears_apart_when_it_comes_is_no_answer(
    client: LocalClient, session: Session, frame: int, when: str
) -> None:
    """A frame that pyzmq had when it saw the signal is gone; what follows is not taken for it."""
    with warmd.Client(client.address) as own:
        mine = own.session(id=session.id)
        mine.call("enter", "first")
        other = mine.submit("stay", {"name": "other", "seconds": 0})
        assert own._link is not None
        transport = own._link.transport
        interrupt(transport, "_recv", frame, when)
        with pytest.raises(KeyboardInterrupt):
            other.result()
        struck = "KeyboardInterrupt struck"
        with within(AT_ONCE_SECONDS), pytest.raises(warmd.DaemonLost, match=struck) as lost:
            other.result()
        assert lost.value.ran == "maybe"
        with within(AT_ONCE_SECONDS + 1.0):
            assert mine.call("enter", "next").output == "next"


# asyncio


def test_a_cancelled_task_cancels_its_call(client: LocalClient, session: Session) -> None:
    async def talk() -> list[str]:
        async with warmd.AsyncClient(client.address) as aio:
            own = aio.session(id=session.id)
            task = asyncio.create_task(own.call("stay", {"name": "long", "seconds": 60}))
            while (await aio.sessions.get(session.id)).state != "busy":
                pass
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(own.call("stay", {"name": "longer", "seconds": 60}), 0.3)
            return list((await own.call("seen")).output)

    with within(6.0):
        seen = asyncio.run(talk())
    assert seen in (["long", "longer"], ["longer"])


def test_a_loop_that_ends_with_calls_open_does_not_hang(client: LocalClient, session: Session) -> None:
    async def talk() -> None:
        aio = warmd.AsyncClient(client.address)
        await aio.submit(session=session.id, function="stay", input={"name": "open", "seconds": 1})
        await aio.submit(session=session.id, function="enter", input="dropped")
        asked = asyncio.ensure_future(aio.status())  # may be answered, or not even sent
        await asyncio.wait({asked}, timeout=0)

    with within(AT_ONCE_SECONDS):
        asyncio.run(talk())
    gc.collect()
    with within(1.0 + AT_ONCE_SECONDS):
        assert session.call("enter", "next").output == "next"
    assert session.call("seen").output == ["open", "open left", "next"]
