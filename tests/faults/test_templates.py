"""Forks of templates are workers like any others, each its own in all that matters."""

from __future__ import annotations

import operator
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import warmd
from tests.faults.watch import (
    AT_ONCE_SECONDS,
    TREE_SECONDS,
    await_gone,
    await_tree_gone,
    begun,
    carriers,
    error_of,
    together,
    token_of,
    undisturbed,
    until,
    within,
    zoo,
)
from warmd.owndaemon import LocalClient

IMPORTS = """
import os, sys, random, threading, socket, subprocess, time
{body}
class App:
    def run(self, input=None):
        print("it ran", flush=True)
        return {{"pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0),
                 "env": os.environ["WARMD_SESSION_ID"], "random": random.random(), "mark": MARK}}
    def sleep(self, seconds):
        from warmd import context
        context.progress("asleep")
        time.sleep(seconds)
"""


@pytest.fixture
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon(session_timeout=60, end_grace=1) as client:
        client.status()
        yield client


class Source:
    """An app whose import does what a test wants."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.py"
        self.write("MARK = 1")

    def write(self, body: str) -> None:
        self.path.write_text(IMPORTS.format(body=body))

    @property
    def app(self) -> str:
        return f"{self.path}:App"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def templates(client: warmd.Client) -> list[dict[str, Any]]:
    return list(client.status().templates)


def test_a_fork_is_the_daemons_child_in_a_session_of_its_own(daemon: LocalClient, source: Source) -> None:
    first, second = daemon.session(source.app), daemon.session(source.app)
    (template,) = templates(daemon)
    facts = [dict(session.call("run").output) for session in (first, second)]
    for session, fact in zip((first, second), facts, strict=True):
        assert fact["parent"] == daemon.daemon_pid
        assert fact["session"] == fact["pid"] != template["pid"]
        assert fact["env"] == session.id
        assert session.info().origin == "fork"
    assert facts[0]["random"] != facts[1]["random"]


def test_whoever_looks_sees_the_forks_own_token_and_id(daemon: LocalClient, source: Source) -> None:
    """In /proc too: by that its tree is found, and by nothing else is it told from the template's."""
    sessions = [daemon.session(source.app) for _ in range(3)]
    (template,) = templates(daemon)
    pids = [int(session.info().pid) for session in sessions]
    tokens = {token_of(pid) for pid in [*pids, template["pid"]]}
    assert len(tokens) == 4
    for pid, session in zip(pids, sessions, strict=True):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert f"WARMD_SESSION_ID={session.id}".encode() in environment
        assert carriers(token_of(pid)) == [pid]


def test_what_a_fork_starts_goes_with_it_and_the_others_stay(daemon: LocalClient) -> None:
    doomed, other = daemon.session(zoo("Forks")), daemon.session(zoo("Forks"))
    token = token_of(int(doomed.info().pid))
    left = list(doomed.call("everything").output.values())
    doomed.end()
    await_gone(left, TREE_SECONDS)
    await_tree_gone(token)
    assert other.info().state == "idle"
    assert [template["state"] for template in templates(daemon)] == ["up"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_death_of_a_fork_is_told_and_costs_nobody_else(
    daemon: LocalClient, source: Source, number: signal.Signals
) -> None:
    first, second = daemon.session(source.app), daemon.session(source.app)
    call = begun(first.submit("sleep", 30))
    with within(AT_ONCE_SECONDS):
        os.kill(int(first.info().pid), number)
        error = error_of(call.result)
    assert error.code == "WORKER_DIED" and number.name in str(error)
    assert second.call("run").output is not None


@pytest.mark.alone
def test_the_death_of_the_template_costs_no_session_and_the_next_start_has_another(
    daemon: LocalClient, source: Source
) -> None:
    session = daemon.session(source.app)
    (template,) = templates(daemon)
    with undisturbed(daemon.address):
        os.kill(template["pid"], signal.SIGKILL)
        until(lambda: all(one["pid"] != template["pid"] for one in templates(daemon)))
    assert session.call("run").output["mark"] == 1
    with daemon.session(source.app) as other:
        assert other.info().origin == "fork"
    assert source.app.split(":")[0] in " ".join(one["app"] for one in templates(daemon))


def test_a_stopped_template_is_killed_and_the_start_fails(daemon: LocalClient, source: Source) -> None:
    daemon.session(source.app)
    (template,) = templates(daemon)
    os.kill(template["pid"], signal.SIGSTOP)
    with within(15.0):
        error = error_of(lambda: daemon.session(source.app))
    assert (error.code, error.ran) == ("START_FAILED", "no")
    await_gone([template["pid"]])
    assert daemon.session(source.app).call("run").output["mark"] == 1


def test_a_killed_daemon_takes_templates_and_forks_along(source: Source) -> None:
    with warmd.testing.daemon() as daemon:
        session = daemon.session(source.app)
        pids = [int(session.info().pid), *(one["pid"] for one in templates(daemon))]
        os.kill(daemon.daemon_pid, signal.SIGKILL)
        await_gone(pids, TREE_SECONDS)


def test_a_stopped_daemon_leaves_no_template(source: Source) -> None:
    with warmd.testing.daemon() as daemon:
        daemon.session(source.app)
        pids = [one["pid"] for one in templates(daemon)]
    await_gone(pids, 1.0)


def test_a_changed_app_is_imported_anew(daemon: LocalClient, source: Source) -> None:
    with daemon.session(source.app) as before:
        source.write("MARK = 2  # changed")
        with daemon.session(source.app) as after:
            assert before.call("run").output["mark"] == 1
            assert after.call("run").output["mark"] == 2
            assert after.info().origin == "fork"


def test_so_is_one_whose_own_module_has_changed(daemon: LocalClient, source: Source) -> None:
    helper = source.path.with_name("helper_of_app.py")
    helper.write_text("MARK = 'old'")
    source.write("from helper_of_app import MARK")
    assert daemon.session(source.app).call("run").output["mark"] == "old"
    helper.write_text("MARK = 'changed'")
    assert daemon.session(source.app).call("run").output["mark"] == "changed"


UNSOUND = {
    "thread": ("threading.Thread(None, time.sleep, 'ticker', (60,), daemon=True).start()", "ticker"),
    "socket": ("KEPT = socket.socketpair()", "socket"),
    "process": ("KEPT = subprocess.Popen(['sleep', '60'])", "process"),
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_what_cannot_be_forked_is_spawned_and_says_why(
    daemon: LocalClient, source: Source, kind: str
) -> None:
    body, named = UNSOUND[kind]
    source.write(f"MARK = 3; {body}")
    sessions = [daemon.session(source.app) for _ in range(2)]
    assert len({session.call("run").output["pid"] for session in sessions}) == 2
    for session in sessions:
        assert session.info().origin.startswith("spawn (importing it") and named in session.info().origin
        assert session.call("run").output["parent"] == daemon.daemon_pid
    assert templates(daemon) == []
    tokens = [token_of(int(session.info().pid)) for session in sessions]
    for session in sessions:
        session.end()
    for token in tokens:
        await_tree_gone(token)


def test_threads_that_end_before_a_fork_are_no_obstacle(daemon: LocalClient, source: Source) -> None:
    """As those of OpenBLAS do: numpy has them after its import, on more than one core."""
    source.write("import numpy; MARK = float(numpy.ones((200, 200)).dot(numpy.ones((200, 200))).sum())")
    sessions = [daemon.session(source.app) for _ in range(2)]
    assert [session.info().origin for session in sessions] == ["fork"] * 2
    assert [session.call("run").output["mark"] for session in sessions] == [8_000_000.0] * 2


def test_no_two_forks_draw_the_same_numbers(daemon: LocalClient, source: Source) -> None:
    source.write("import numpy; MARK = property(lambda _: float(numpy.random.random()))")
    source.path.write_text(source.path.read_text().replace('"mark": MARK', '"mark": MARK.fget(0)'))
    sessions = [daemon.session(source.app) for _ in range(3)]
    outputs = [session.call("run").output for session in sessions]
    assert len({output["mark"] for output in outputs}) == 3
    assert len({output["random"] for output in outputs}) == 3


def test_what_the_import_prints_is_in_the_log_of_each_session(daemon: LocalClient, source: Source) -> None:
    source.write("MARK = 1; print('imported now', flush=True)")
    for session in [daemon.session(source.app) for _ in range(2)]:
        assert b"".join(daemon.logs(session.id)).startswith(b"imported now\n")


def test_who_follows_a_log_during_the_import_goes_on_with_the_sessions(
    daemon: LocalClient, source: Source
) -> None:
    source.write("print('importing', flush=True); time.sleep(1); MARK = 1")
    call = daemon.submit(app=source.app, session="new")
    told = daemon.logs(str(call.session_id), follow=True)
    assert next(told) == b"importing\n"
    assert call.result().output["mark"] == 1
    daemon.sessions.end(str(call.session_id))
    assert b"".join(told) == b"it ran\n"


def test_an_import_that_fails_is_told_to_all_who_wait_and_in_their_logs(
    daemon: LocalClient, source: Source
) -> None:
    source.write("print('about to fail', flush=True); time.sleep(0.5); MARK = 1 / 0")
    calls = [daemon.submit(app=source.app, session="new") for _ in range(5)]
    errors = [error_of(call.result) for call in calls]
    assert {(error.code, error.ran) for error in errors} == {("START_FAILED", "no")}
    assert all("ZeroDivisionError" in str(error) for error in errors)
    for error in errors:
        assert b"about to fail" in b"".join(daemon.logs(str(error.session)))
    until(lambda: templates(daemon) == [], TREE_SECONDS)
    source.write("MARK = 'mended'")
    assert daemon.session(source.app).call("run").output["mark"] == "mended"


def test_an_import_that_hangs_ends_with_the_last_who_waits(daemon: LocalClient, source: Source) -> None:
    source.write("time.sleep(600); MARK = 1")
    calls = [daemon.submit(app=source.app, session="new", timeout=seconds) for seconds in (1, 2)]
    (template,) = until(lambda: [one for one in templates(daemon) if one["pid"]])
    for call in calls:
        error = error_of(call.result)
        assert (error.code, error.ran) == ("TIMEOUT", "no")
    await_gone([template["pid"]], TREE_SECONDS)
    assert daemon.status().sessions == 0


def test_fifty_starts_at_once_share_one_import(daemon: LocalClient, source: Source) -> None:
    source.write("open(__file__ + '.imports', 'a').write('x'); MARK = 1")
    pids: list[int] = []

    def open_one(_: int) -> None:
        pids.append(int(daemon.session(source.app).call("run").output["pid"]))

    together(open_one, range(50))
    assert len(set(pids)) == 50
    assert source.path.with_name("app.py.imports").read_text() == "x"


def test_templates_end_when_nobody_uses_them(source: Source) -> None:
    with warmd.testing.daemon(template_timeout="1s") as daemon:
        with daemon.session(source.app) as session:
            (template,) = templates(daemon)
            await_gone([template["pid"]], 5.0)
            assert session.call("run").output["mark"] == 1
        assert templates(daemon) == []


def test_none_is_made_where_they_are_off(source: Source) -> None:
    with warmd.testing.daemon(max_templates=0) as daemon, daemon.session(source.app) as session:
        assert session.info().origin == "spawn"
        assert templates(daemon) == []


def test_a_hundred_forks_leave_nothing_in_template_and_daemon(daemon: LocalClient, source: Source) -> None:
    def held(pids: list[int]) -> list[int]:
        processes = [psutil.Process(pid) for pid in pids]
        return [count for one in processes for count in (one.num_fds(), one.num_threads())]

    with daemon.session(source.app):
        (template,) = templates(daemon)
        pids = [template["pid"], daemon.daemon_pid]
        before = held(pids)
        for _ in range(100):
            daemon.session(source.app).end()
        # The template may not have been through with the first fork then, nor with the last one now.
        until(lambda: all(map(operator.le, held(pids), before)))
        assert templates(daemon)[0]["forks"] == 101
