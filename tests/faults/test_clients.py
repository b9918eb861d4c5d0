"""Clients that die with a call, a queue or a stream: nothing runs twice, nobody else waits for them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import warmd
from tests.faults.watch import AT_ONCE_SECONDS, begun, until, within

if TYPE_CHECKING:
    from warmd.owndaemon import LocalClient
    from warmd.session import Session

VISITS = f"{Path(__file__).parents[1] / 'zoo_visits.py'}:Visits"
GENERATOR_EXIT_SECONDS = 5.0
STALLED_SECONDS = 10.0

IN_A_CALL = """
call = session.submit("stay", {"name": "mine", "seconds": 1.0})
while call.status().progress is None:
    pass
print("ready", flush=True)
call.result()
"""
WITH_A_QUEUE = """
calls = [session.submit("enter", f"mine {n}") for n in range(20)]
while client.sessions.get(session.id).queued < 20:
    pass
print("ready", flush=True)
calls[-1].result()
"""
IN_A_STREAM = """
for number, part in enumerate(session.stream("stream", {"path": path})):
    if number == 10:
        print("ready", flush=True)
"""
IN_A_STALLED_STREAM = """
import time
stream = session.stream("stream", {"path": path, "size": 100_000})
next(stream)
print("ready", flush=True)
time.sleep(1000)
"""


@contextmanager
def client_process(
    client: LocalClient, session: str, does: str, path: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A client that has got to where its script says `ready`."""
    head = "import sys, warmd; address, id, path = sys.argv[1:]\nclient = warmd.Client(address)\n"
    command = [
        sys.executable,
        "-c",
        f"{head}session = client.session(id=id)\n{does}",
        client.address,
        session,
        path,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def session(client: LocalClient) -> Session:
    return client.session(VISITS)


def test_the_call_of_a_killed_client_ends_once_and_the_session_is_free(
    client: LocalClient, session: Session
) -> None:
    with client_process(client, session.id, IN_A_CALL) as process:
        behind = session.submit("enter", "other")
        process.kill()
        assert behind.result(AT_ONCE_SECONDS + 1.0).output == "other"
    assert session.call("seen").output == ["mine", "mine left", "other"]


def test_what_a_killed_client_has_waiting_never_runs_and_others_keep_their_turn(
    client: LocalClient, session: Session
) -> None:
    running = begun(session.submit("stay", {"name": "first", "seconds": 60}))
    before = session.submit("enter", "before")
    with client_process(client, session.id, WITH_A_QUEUE.replace("< 20", "< 21")) as process:
        after = session.submit("enter", "after")
        process.kill()
        with within(AT_ONCE_SECONDS):
            until(lambda: session.info().queued == 2)
    running.cancel()
    assert (before.result(5).output, after.result(5).output) == ("before", "after")
    assert session.call("seen").output == ["first", "before", "after"]


@pytest.mark.parametrize(
    ("does", "bound_seconds"),
    [(IN_A_STREAM, GENERATOR_EXIT_SECONDS), (IN_A_STALLED_STREAM, STALLED_SECONDS)],
    ids=["reading", "stalled"],
)
@pytest.mark.parametrize("stopped_first", [False, True], ids=["running", "stopped"])
def test_the_stream_of_a_killed_client_is_closed_and_the_session_is_free(
    client: LocalClient,
    session: Session,
    tmp_path: Path,
    does: str,
    bound_seconds: float,
    stopped_first: bool,
) -> None:
    told = tmp_path / "told"
    with client_process(client, session.id, does, str(told)) as process:
        if stopped_first:
            process.send_signal(signal.SIGSTOP)
        process.kill()
        with within(bound_seconds):
            until(told.exists, bound_seconds)
            assert session.call("enter", "other").output == "other"
    assert told.read_text() == "GeneratorExit"
    assert session.call("seen").output == ["other"], "its state is the same"


def test_a_client_that_dies_with_its_daemons_reply_on_the_way_disturbs_nobody(
    client: LocalClient, session: Session
) -> None:
    """Killed at random moments of a storm of calls; each was run at most once, in order."""
    storm = "print('ready', flush=True)\nfor n in range(100000): session.call('enter', f'mine {n}')"
    for _ in range(5):
        with client_process(client, session.id, storm) as process:
            seen = len(session.call("seen").output)
            until(lambda least=seen + 20: len(session.call("seen").output) > least)  # type: ignore[misc]
            process.kill()
            process.wait()
        book = session.call("seen").output
        visits = [int(name.split()[1]) for name in book]
        last = visits[len(visits) - 1 - visits[::-1].index(0) :]
        assert last == list(range(len(last)))


def test_leaving_a_stream_early_ends_its_generator_and_frees_the_session(
    client: LocalClient, session: Session, tmp_path: Path
) -> None:
    async def awaited(told: Path) -> None:
        async with warmd.AsyncClient(client.address) as aio:
            async for _ in aio.stream(session=session.id, function="stream", input={"path": str(told)}):
                break

    def closed(told: Path) -> None:
        stream = session.stream("stream", {"path": str(told)})
        next(stream)
        stream.close()

    def left(told: Path) -> None:
        for _ in session.stream("stream", {"path": str(told)}):
            break

    for n, leave in enumerate([left, closed, lambda told: asyncio.run(awaited(told))]):
        told = tmp_path / str(n)
        with within(GENERATOR_EXIT_SECONDS):
            leave(told)
            assert session.call("enter", str(n)).output == str(n)
        assert told.read_text() == "GeneratorExit"
