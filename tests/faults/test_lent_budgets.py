"""Little memory to lend, few descriptors, no files: large values go another way, or one call fails; and
memory that is free is let go."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import warmd
from tests.faults.daemons import serving
from tests.faults.lentmemory import NOTHING, Lent, lent_in
from tests.faults.test_exhaustion import at_most, open_until_refused
from tests.faults.test_lent_values import ECHO, SIZE, of
from tests.faults.watch import error_of, together, until
from tests.rawzmq import connected
from warmd.protocol import mappings, places, segments
from warmd.protocol.keys import KeyFolder

if TYPE_CHECKING:
    from warmd.owndaemon import LocalClient

MIB = 1 << 20
TESTS = Path(__file__).parents[1]
DESCRIPTORS = 128


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients here let go soon of what they do not need."""
    for module in (segments, mappings):
        monkeypatch.setattr(module, "KEPT_SECONDS", 0.2)


# Little to lend


@pytest.mark.parametrize("max_lent_bytes", [0, 1, SIZE, 5 * SIZE])
def test_what_cannot_be_lent_goes_within_its_message(max_lent_bytes: int) -> None:
    with warmd.testing.daemon(max_lent_bytes=max_lent_bytes) as own, own.session(ECHO) as session:
        calls = [session.submit("echo", of(number, SIZE * (1 + number % 7))) for number in range(30)]
        results = [call.result().output for call in calls]
        results += [part.copy() for part in session.stream("parts_of", {"value": of(0), "count": 20})]
        assert all(np.array_equal(got, of(n, SIZE * (1 + n % 7))) for n, got in enumerate(results[:30]))
        assert [{*part.tolist()} for part in results[30:]] == [{number} for number in range(20)]
        pids = os.getpid(), session.info().pid
        assert (lent_in(*pids) == NOTHING) == (max_lent_bytes < SIZE)
        # What was mapped and let go by its owner is kept for a while.
        until(lambda: lent_in(*pids).bytes <= 2 * max_lent_bytes + 30 * 4096)


def test_more_results_than_there_are_segments_can_be_held(client: LocalClient) -> None:
    with warmd.Client(client.address) as own:
        session = own.session(ECHO)
        results = [session.call("echo", of(number)).output for number in range(3 * segments.MOST_SEGMENTS)]
        assert lent_in(session.info().pid).segments <= 2 * segments.MOST_SEGMENTS
        assert all(np.array_equal(result, of(number)) for number, result in enumerate(results))


# Few descriptors

FEW = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import ctypes, os, numpy as np, warmd, zoo_lent
address, left, *ids = sys.argv[1:]
client = warmd.Client(address)
sessions = [client.session(id=id) for id in ids]
[session.call("size", b"") for session in sessions]
def echo(n, session):
    return session.call("echo", np.full({SIZE}, n, "u1")).output
if left == "none, and a lane":
    [echo(n, sessions[0]) for n in range(3)]
    call = sessions[0].submit("echo", np.full({SIZE}, 1, "u1"))
    taken = zoo_lent.leave_descriptors(0)
    try:
        call.result()
    except warmd.DaemonFailed as error:
        print(error, end=" ")
    zoo_lent.free(taken)
else:
    zoo_lent.leave_descriptors(int(left))
held = [(n, echo(n, session)) for n in range(40) for session in sessions]
print(all((one == n).all() for n, one in held), client.status().clients)
if left == "40":
    [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]  # and some are left for others
"""


@pytest.mark.parametrize("left", ["0", "1", "2", "3", "8", "40", "none, and a lane"])
def test_a_client_with_few_descriptors_gets_its_results(client: LocalClient, left: str) -> None:
    """At the worst a large result is an error that says why, and the connection lives on."""
    sessions = [client.session(ECHO) for _ in range(2)]
    command = [sys.executable, "-c", FEW, client.address, left, *(session.id for session in sessions)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (told.stderr, told.returncode) == ("", 0)
    assert told.stdout.endswith("True 2\n")
    assert told.stdout.count("Too many open files") == ("lane" in left)


@pytest.mark.parametrize("left", [0, 1, 2, 3, 8, 40])
def test_a_worker_with_few_descriptors_serves(client: LocalClient, left: int) -> None:
    with warmd.Client(client.address) as own:
        session = own.session(ECHO)
        session.call("total", of(0))
        session.call("leave_descriptors", left)
        if left == 0:
            error = error_of(lambda: session.call("total", of(0)))
            assert (error.code, error.ran) == ("INVALID", "no") and "Too many open files" in str(error)
            session.call("free_descriptors")
        results = [session.call("echo", of(number)).output for number in range(20)]
        assert all(np.array_equal(result, of(number)) for number, result in enumerate(results))
        for number in range(20):
            assert session.call("keep", of(number)).output == number + 1
        assert session.call("totals").output == [of(number).sum() for number in range(20)]


def test_a_daemon_with_few_descriptors_serves_and_lets_others_in(tmp_path: Path) -> None:
    """Results that clients hold would take more than it has."""
    with serving(tmp_path / "run", before_exec=at_most(DESCRIPTORS)) as (daemon, client):
        sessions = [client.session(ECHO) for _ in range(5)]
        held: list[Any] = []
        for number in range(30):
            for session in sessions:
                held.append((number, session.call("echo", of(number)).output))
            with warmd.Client(daemon.address) as late:
                late.status()
        assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= DESCRIPTORS * 7 // 8
        assert all(np.array_equal(result, of(number)) for number, result in held)
        queued = [session.submit("echo", of(9)) for session in sessions for _ in range(20)]
        assert all(np.array_equal(call.result().output, of(9)) for call in queued)
        assert {session.info().state for session in sessions} <= {"idle", "busy"}
        held.clear()


def test_a_lane_that_a_daemon_has_no_descriptor_for_is_not_used(tmp_path: Path) -> None:
    with serving(tmp_path / "run", before_exec=at_most(DESCRIPTORS)) as (daemon, client):
        session = client.session(ECHO)
        sessions, _ = open_until_refused(client)
        taken = []
        while len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= DESCRIPTORS * 3 // 4:
            taken.append(connected(daemon.run_dir / "warmd.sock"))
            client.status()
        for number in range(3):
            assert np.array_equal(session.call("echo", of(number)).output, of(number))
        for stranger in taken:
            stranger.close()
        for other in sessions:
            other.end()
        pid = session.info().pid
        until(lambda: session.call("echo", of(3)).output.sum() == of(3).sum() and lent_in(pid).segments, 5.0)


def test_many_clients_of_a_daemon_with_few_descriptors_are_served(tmp_path: Path) -> None:
    with serving(tmp_path / "run", before_exec=at_most(DESCRIPTORS)) as (daemon, client):
        session = client.session(ECHO)

        def work(seed: int) -> None:
            # Who does not come in is told so; who does is served.
            with contextlib.suppress(warmd.DaemonUnavailable), warmd.Client(daemon.address) as own:
                mine = own.session(id=session.id)
                held = [mine.call("echo", of(seed + number)).output for number in range(8)]
                assert all(np.array_equal(result, of(seed + number)) for number, result in enumerate(held))

        together(work, range(0, 100 * DESCRIPTORS // 4, 100))
        assert daemon.process.poll() is None


# No memory


def test_without_files_large_values_go_within_their_messages(client: LocalClient) -> None:
    """RLIMIT_FSIZE counts for memory that is lent."""
    with warmd.Client(client.address) as own:
        session = own.session(ECHO)
        session.call("limit_files", SIZE // 2)
        results = [session.call("echo", of(number)).output for number in range(5)]
        assert all(np.array_equal(result, of(number)) for number, result in enumerate(results))


def test_inputs_that_a_worker_has_done_with_do_not_count_against_its_memory() -> None:
    """Mappings that are kept for later are let go when they are in the way."""
    with warmd.testing.daemon(worker_memory="192MiB") as own, own.session(ECHO) as session:
        clients = [warmd.Client(own.address) for _ in range(4)]
        try:
            for client in clients:
                mine = client.session(id=session.id)
                for _ in range(2):
                    assert mine.call("total", np.ones(48 * MIB, "u1")).output == 48 * MIB
            assert session.call("hog", 64).output == 64 * MIB
        finally:
            for client in clients:
                client.close()


def test_an_input_that_is_too_large_for_a_worker_is_an_error_and_it_lives_on() -> None:
    with warmd.testing.daemon(worker_memory="192MiB") as own, own.session(ECHO) as session:
        pid = session.info().pid
        for _ in range(3):
            error = error_of(lambda: session.call("total", np.ones(220 * MIB, "u1")))
            assert (error.code, error.ran) == ("INVALID", "no"), error
            assert session.call("total", np.ones(MIB, "u1")).output == MIB
        assert session.info().pid == pid


# Detached


def test_what_detached_calls_gave_is_kept_within_the_budget_and_released() -> None:
    kept = 8 * SIZE
    with warmd.testing.daemon(detached_max_bytes=kept) as own:
        session = own.session(ECHO)
        calls = [session.submit("echo", of(number), detach=True) for number in range(12)]
        ids = [call.call_id for call in calls]
        assert np.array_equal(calls[-1].result().output, of(11))
        session.end()
        del calls
        states = [error_code(own, id) for id in ids]
        assert states.count(None) == 7 and states[-7:] == [None] * 7, "with what keeping costs it is one less"
        assert set(states[:-7]) == {"CALL_GONE"}
        assert lent_in(own.daemon_pid).bytes <= kept
        for number, id in list(enumerate(ids))[-7:]:
            first, second = own.calls.result(id).output, next(own.calls.attach(id))
            first[:] = 0
            assert np.array_equal(second, of(number))
        stream = own.submit(app=ECHO, function="changing", input={"count": 20, "size": SIZE}, detach=True)
        assert (stream.result().output == 19).all()
        assert [error_code(own, id) for id in ids] == ["CALL_GONE"] * len(ids)
        first_part = own.calls.get(stream.call_id).first_part
        parts = list(own.calls.attach(stream.call_id, first_part))
        assert [int(part[0]) for part in parts] == list(range(first_part, 20))


def error_code(client: warmd.Client, call: str) -> str | None:
    try:
        client.calls.get(call)
    except warmd.WarmdError as error:
        return error.code
    return None


def test_what_is_kept_does_not_hold_more_memory_than_it_counts_for() -> None:
    """Small results in memory that was filled with large ones before."""
    with warmd.testing.daemon(detached_max_bytes="16MiB") as own:
        for _ in range(4):
            with own.session(ECHO) as session:
                for size, detach in ((24 * MIB, False), (SIZE, True)):
                    given = {"number": 1, "size": size}
                    calls = [session.submit("filled", given, detach=detach) for _ in range(4)]
                    assert [call.result().output.size for call in calls] == [size] * 4
                    calls.clear()
        assert lent_in(own.daemon_pid).bytes <= 24 * MIB


def test_the_memory_of_a_detached_call_is_free_when_its_time_is_over() -> None:
    with warmd.testing.daemon(detached_keep="0.3s") as own:
        with own.session(ECHO) as session:
            call = session.submit("echo", of(1), detach=True)
            assert np.array_equal(call.result().output, of(1))
        del call
        until(lambda: lent_in(own.daemon_pid) == NOTHING, 5.0)


# Over TCP

GUEST = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import zoo_lent
class App(zoo_lent.Echo):
    pass
"""


def test_over_tcp_large_values_are_frames_and_their_memory_is_free_when_they_are_sent(tmp_path: Path) -> None:
    with warmd.testing.daemon(listen="tcp://127.0.0.1:0", app_folders=str(folder(tmp_path))) as own:
        key = KeyFolder(places.keys_dir(own.run_dir)).add("guest").text
        own.reload_keys()
        before = lent_in(os.getpid())
        with warmd.Client(str(own.status().listen), key=key) as client, client.session("guest") as session:
            pid = session.info().pid
            for size in (SIZE, 4 * MIB + 8, SIZE):
                for _ in range(3):
                    assert np.array_equal(session.call("echo", of(1, size)).output, of(1, size))
                parts = list(session.stream("parts_of", {"value": of(1, size), "count": 5}))
                assert [{*part.tolist()} for part in parts] == [{number} for number in range(5)]
                until(lambda: lent_in(own.daemon_pid, pid) == NOTHING, 5.0)
            assert lent_in(os.getpid()) == before


def folder(tmp_path: Path) -> Path:
    (tmp_path / "apps" / "guest").mkdir(parents=True)
    (tmp_path / "apps" / "guest" / "app.py").write_text(GUEST)
    return tmp_path / "apps"


# A signal that Python ignores and programs do not

PIPE = f"""
import os, select, signal, sys
import numpy as np, warmd
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
with warmd.Client(sys.argv[1]) as client:
    session = client.session(id=sys.argv[2])
    session.call("total", np.ones({SIZE}, "u1"))
    session.call("total", np.ones({SIZE}, "u1"))
    daemon = os.pidfd_open(int(sys.argv[3]))
    os.kill(int(sys.argv[3]), signal.SIGKILL)
    select.select([daemon], [], [])
    try:
        session.call("total", np.ones({SIZE}, "u1"))
    except warmd.WarmdError as error:
        print(error.code)
"""


def test_a_lane_that_is_closed_does_not_end_a_program_with_a_signal() -> None:
    with warmd.testing.daemon() as own:
        session = own.session(ECHO)
        command = [sys.executable, "-c", PIPE, own.address, session.id, str(own.daemon_pid)]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert said.returncode != -signal.SIGPIPE
        assert said.stdout in ("DAEMON_LOST\n", "DAEMON_UNAVAILABLE\n"), said
    assert Lent and Iterator
