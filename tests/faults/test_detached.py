"""Calls that outlive their client: killed at any moment, read on by another, kept within bounds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import warmd
from tests.daemon.rawclient import RawClient
from tests.faults.watch import AT_ONCE_SECONDS, error_of, together, undisturbed, until, within
from tests.zoo_detached import piece
from warmd import plan
from warmd.owndaemon import LocalClient
from warmd.protocol.messages import Attach, CallId, Part, Result

ZOO = Path(__file__).parents[1] / "zoo_detached.py"
POURS = f"{ZOO}:Pours"
COUNT, SIZE = 320, 32 * 1024
MANY = 8000
"""10 MiB in all."""
PAUSE_SECONDS = 0.001
WHOLE = b"".join(piece(number, SIZE) for number in range(COUNT))
DEATHS = 30
SEED = 20

CLIENT = """
import sys, warmd
address, session, name, count, size, pause = sys.argv[1:]
with warmd.Client(address) as client:
    given = {"name": name, "count": int(count), "size": int(size), "pause": float(pause)}
    call = client.submit(session=session, function="pour", input=given, detach=True)
    sys.stdout.buffer.write(call.call_id.encode())
    sys.stdout.flush()
    for part in client.calls.attach(call.call_id):
        sys.stdout.buffer.write(part)
        sys.stdout.flush()
"""

SUBMITTER = """
import sys, time, warmd
address, session, path = sys.argv[1:4]
client = warmd.Client(address)
client.submit(session=session, function="wait", input={"name": "first", "path": path}, detach=True)
for name in ("second", "third"):
    client.submit(session=session, function="sleep", input={"name": name, "seconds": 0}, detach=True)
client.submit(session=session, function="sleep", input={"name": "not detached", "seconds": 0})
print("submitted", flush=True)
time.sleep(1000)
"""


@contextmanager
def script(text: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client's process; killed at the end, if it was not before."""
    with subprocess.Popen([sys.executable, "-c", text, *words], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def out(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return process.stdout.fileno()


def read_some(process: subprocess.Popen[bytes], least: int) -> bytes:
    """At least so many bytes of what it says, or all if it says less."""
    said = b""
    while len(said) < least and (more := os.read(out(process), 1 << 16)):
        said += more
    return said


def cut_off(address: str, session: str, name: str, after: int) -> tuple[str, bytes]:
    """A client that is killed when it has given so many bytes of the stream: the call, and those bytes."""
    with script(CLIENT, address, session, name, *map(str, (COUNT, SIZE, PAUSE_SECONDS))) as process:
        said = read_some(process, 32 + after)
        process.kill()
        said += read_some(process, 2 * len(WHOLE))
    return said[:32].decode(), said[32:]


def error_or_none(client: warmd.Client, call: str) -> str | None:
    try:
        client.calls.get(call)
    except warmd.WarmdError as error:
        return error.code
    return None


def test_a_stream_is_whole_though_its_client_is_killed_at_any_moment(client: LocalClient) -> None:
    """Another client attaches with the offset that the dead one had; the function ran once."""
    moments = random.Random(SEED)
    names = [f"pour {number}" for number in range(DEATHS)]
    in_the_midst = 0
    with client.session(POURS) as session:
        for name in names:
            call, had = cut_off(client.address, session.id, name, moments.randrange(1, len(WHOLE)))
            offset = len(had) // SIZE
            in_the_midst += client.calls.get(call).state == "running"
            rest = b"".join(client.calls.attach(call, offset))
            assert had[: offset * SIZE] + rest == WHOLE
            info = client.calls.get(call)
            assert (info.state, info.code, info.ran, info.parts) == ("done", None, "yes", COUNT)
        assert session.call("seen").output == names
    assert in_the_midst > DEATHS / 3, "most clients were killed after the call had ended"


def test_the_results_of_a_killed_client_are_there_for_another(client: LocalClient, tmp_path: Path) -> None:
    """What it had detached runs, in its turn; what it had not is dropped."""
    pipe = tmp_path / "go on"
    os.mkfifo(pipe)
    with client.session(POURS) as session:
        with script(SUBMITTER, client.address, session.id, str(pipe)) as process:
            assert read_some(process, 5)
            until(lambda: client.sessions.get(session.id).queued == 3)
            process.kill()
        until(lambda: client.sessions.get(session.id).queued == 2)
        mine = [info for info in client.calls.list() if info.session == session.id]
        assert [info.state for info in mine] == ["running", "queued", "queued"]
        pipe.write_text("")
        outputs = [client.calls.result(info.id, timeout=20).output for info in mine]
        assert outputs == session.call("seen").output == ["first", "second", "third"]


def test_its_deadline_holds_when_its_client_is_gone(client: LocalClient) -> None:
    with client.session(POURS) as session:
        with warmd.Client(client.address) as other:
            given = {"name": "long", "seconds": 1000}
            call = other.submit(session=session.id, function="sleep", input=given, detach=True, timeout=0.5)
        error = error_of(lambda: client.calls.result(call.call_id, timeout=20))
        assert (error.code, error.ran, error.call) == ("TIMEOUT", "maybe", call.call_id)
        assert "in sleep" in error.details["stack"]
        info = client.calls.get(call.call_id)
        assert (info.state, info.code, info.ran) == ("done", "TIMEOUT", "maybe")


def test_a_death_is_kept_like_a_result(client: LocalClient, tmp_path: Path) -> None:
    pipe = tmp_path / "never"
    os.mkfifo(pipe)
    with client.session(POURS) as session:
        call = session.submit("wait", {"name": "x", "path": str(pipe)}, detach=True)
        until(lambda: client.calls.get(call.call_id).progress == "in")
        os.kill(client.sessions.get(session.id).pid, signal.SIGKILL)
        for read in (call.result, lambda: list(client.calls.attach(call.call_id))):
            error = error_of(read)
            assert (error.code, error.ran, error.details["signal"]) == ("WORKER_DIED", "maybe", "SIGKILL")


def test_anybody_may_cancel_it(client: LocalClient) -> None:
    with client.session(POURS) as session, warmd.Client(client.address) as other:
        call = session.submit("sleep", {"name": "x", "seconds": 1000}, detach=True)
        until(lambda: client.calls.get(call.call_id).state == "running")
        assert other.calls.cancel(call.call_id) is True
        assert error_of(call.result).code == "CANCELLED"
        assert other.calls.cancel(call.call_id) is False


def test_readers_neither_hold_it_up_nor_end_it(client: LocalClient) -> None:
    """Ten read at once, from everywhere; one reads nothing, one leaves, one is killed."""
    with client.session(POURS) as session:
        given = {"name": "all", "count": COUNT, "size": SIZE, "pause": PAUSE_SECONDS}
        call = session.submit("pour", given, detach=True)
        asleep, leaving = client.calls.attach(call.call_id), client.calls.attach(call.call_id)
        assert next(asleep) == next(leaving) == piece(0, SIZE)
        leaving.close()
        cut_off(client.address, session.id, "another", SIZE)

        def read_from(offset: int) -> None:
            with warmd.Client(client.address) as other:
                assert b"".join(other.calls.attach(call.call_id, offset)) == WHOLE[offset * SIZE :]

        together(read_from, range(0, COUNT, COUNT // 10))
        assert piece(0, SIZE) + b"".join(asleep) == WHOLE


@pytest.mark.alone
def test_readers_of_very_many_parts_disturb_nobody(client: LocalClient) -> None:
    with client.session(POURS) as session, RawClient(client.run_dir) as raw:
        given = {"name": "all", "count": MANY, "size": 1}
        call = session.submit("pour", given, detach=True)
        client.calls.result(call.call_id, timeout=60)
        with undisturbed(client.address):
            readers = [CallId(os.urandom(16)) for _ in range(10)]
            for id in readers:
                raw.send(Attach(id, CallId(bytes.fromhex(call.call_id)), 0, MANY))
            parts, ends = dict.fromkeys(readers, 0), {}
            while len(ends) < len(readers):
                message = raw.next()
                if type(message) is Part:
                    assert message.number == parts[message.id]
                    parts[message.id] += 1
                elif type(message) is Result:
                    ends[message.id] = message.parts
        assert parts == ends == dict.fromkeys(readers, MANY)


def test_a_repetition_of_it_runs_no_second_time(client: LocalClient) -> None:
    """While it runs, and after its end."""
    with client.session(POURS) as session, warmd.Client(client.address) as other:
        options = {"session": session.id, "function": "sleep", "input": {"name": "once", "seconds": 0.3}}
        message = plan.submission({**options, "detach": True})
        for _ in range(2):
            for who in (client, other):
                link, pending = who._begin(message)
                link.await_admission(pending)
                assert client.calls.result(message.id.hex(), timeout=20).output == "once"
        assert session.call("seen").output == ["once"]


def test_a_refusal_is_told_to_the_submitter(client: LocalClient) -> None:
    error = error_of(lambda: client.submit(app=POURS, function="_private", detach=True))
    assert (error.code, error.ran) == ("FUNCTION_NOT_FOUND", "no")


def test_beyond_the_budget_it_is_said_what_is_left() -> None:
    """Of a stream larger than all that may be kept its end is there, and no more than that in memory."""
    with warmd.testing.daemon(detached_max_bytes="1MiB") as own, own.session(POURS) as session:
        call = session.submit("pour", {"name": "large", "count": COUNT, "size": SIZE}, detach=True)
        assert call.result().output == piece(COUNT - 1, SIZE)
        error = error_of(lambda: list(own.calls.attach(call.call_id)))
        assert (error.code, error.outcome, error.ran) == ("CALL_GONE", "gone", "maybe")
        first = error.details["first_part"]
        assert first == own.calls.get(call.call_id).first_part == COUNT - 31
        assert f"{2**20} bytes (detached_max_bytes)" in str(error)
        assert b"".join(own.calls.attach(call.call_id, first)) == WHOLE[first * SIZE :]
        later = session.submit("pour", {"name": "later", "count": COUNT, "size": SIZE}, detach=True)
        later.result()
        error = error_of(lambda: own.calls.result(call.call_id))
        assert error.code == "CALL_GONE" and "room was needed for later ones" in str(error)


def test_after_its_time_it_is_gone_and_its_readers_are_told() -> None:
    with warmd.testing.daemon(detached_keep="1s") as own, own.session(POURS) as session:
        call = session.submit("pour", {"name": "all", "count": COUNT, "size": SIZE}, detach=True)
        slow = own.calls.attach(call.call_id)
        next(slow)
        until(lambda: error_or_none(own, call.call_id) == "CALL_GONE", 10.0)
        assert own.calls.list() == []
        error = error_of(lambda: list(slow))
        assert error.code == "CALL_GONE" and "1 s (detached_keep)" in str(error)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_daemon_ends_readers_are_told_and_the_next_one_knows_nothing(how: signal.Signals) -> None:
    with ThreadPoolExecutor(1) as pool, warmd.testing.daemon(drain_timeout="0.2s") as own:
        session = own.session(POURS)
        call = session.submit("sleep", {"name": "x", "seconds": 1000}, detach=True)
        until(lambda: own.calls.get(call.call_id).state == "running")
        stream = own.calls.attach(call.call_id)  # it is on its way before the daemon is gone
        reading = pool.submit(error_of, lambda: list(stream))
        assert not reading.done()
        os.kill(own.daemon_pid, how)
        error = reading.result(timeout=20)
        assert error.code == ("DAEMON_LOST" if how is signal.SIGKILL else "CANCELLED")
    with warmd.testing.daemon() as restarted:
        restarted.status()
        for ask in (restarted.calls.get, restarted.calls.result, restarted.calls.cancel):
            with within(AT_ONCE_SECONDS):
                error = error_of(lambda ask=ask: ask(call.call_id))
            assert error.code == "CALL_GONE" and "unknown to this daemon, which started" in str(error)
        with within(AT_ONCE_SECONDS):
            error = error_of(lambda: next(restarted.calls.attach(call.call_id)))
        assert error.code == "CALL_GONE"
