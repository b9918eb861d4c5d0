"""Starts that fail: told with their reason, nothing left, the place free, nobody else delayed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import warmd
from tests.faults.watch import (
    AFTER_DEADLINE_SECONDS,
    AT_ONCE_SECONDS,
    TREE_SECONDS,
    await_gone,
    error_of,
    together,
    undisturbed,
    until,
    within,
    zoo,
)
from warmd.owndaemon import LocalClient
from warmd.protocol import places

pytestmark = pytest.mark.alone

FAILING = {
    "SetupRaises": "ValueError: setup does not want to",
    "SetupExits": "SystemExit: 4",
    "SetupDies": "exited with code 12",
    "SetupCrashes": "killed by SIGSEGV",
    "SetupForks": "ValueError: setup forked and failed",
    "InitRaises": "ValueError: no instance",
    "AsyncSetupRaises": "ValueError: async setup does not want to",
    "AsyncSetupExits": "SystemExit: 4",
    "NoSuchClass": "NoSuchClass",
}
HANGING = ("SetupHangs", "SetupHangsInC")
START_SECONDS = 3.0
"""For a start that hangs in `setup`: the import before it must be over by then, on a busy machine too."""
OTHERS_SECONDS = 3.0
SILENT_SECONDS = 5.0
"""In that time another session starts, on a machine that is busy with tests."""
STORM = 50
CLASS = "class App:\n    def run(self):\n        return 1\n"


def check_failed_start(error: warmd.WarmdError, reason: str) -> None:
    assert (error.code, error.outcome, error.ran) == ("START_FAILED", "start_failed", "no")
    assert reason in str(error)


def test_a_start_that_fails_says_why(client: LocalClient) -> None:
    def one(app: str) -> None:
        call = client.submit(app=zoo(app), session="new", timeout=20)
        error = error_of(call.result)
        check_failed_start(error, FAILING[app])
        if "Error:" in FAILING[app]:
            assert FAILING[app] in error.details["traceback"] and error.details["type"] == "ValueError"
        if app == "SetupDies":
            assert "setup is dying" in str(error)
        if app == "SetupCrashes":
            assert "in setup" in error.details["log_tail"]
        assert error_of(lambda: client.run(session=error.session, function="run")).code == "SESSION_DIED"
        assert error.session not in [one.id for one in client.sessions.list() if one.state != "stopping"]

    with undisturbed(client.address):
        together(one, FAILING)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_at_all\n", "no_such_module_at_all"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("import os\nos._exit(9)\n", "exited with code 9"),
        ("import ctypes\nctypes.string_at(0)\n", "killed by SIGSEGV"),
    ],
    ids=["missing module", "exit", "_exit", "crash"],
)
def test_an_import_that_fails_says_why(client: LocalClient, tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "app.py").write_text(source + CLASS)
    error = error_of(lambda: client.run(app=f"{tmp_path}/app.py:App", session="new", timeout=20))
    check_failed_start(error, reason)


def test_an_app_that_is_not_there_is_told(client: LocalClient, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("x = 1\n")
    (tmp_path / "bad.py").write_text("import =\n" + CLASS)
    for app in (*(f"{tmp_path}/{name}.py:App" for name in ("app", "none")), "no_such_app"):
        with within(AT_ONCE_SECONDS):
            error = error_of(lambda app=app: client.run(app=app, session="new"))  # type: ignore[misc]
        assert (error.code, error.ran) == ("APP_NOT_FOUND", "no")
    assert client.status().sessions == 0
    # Only the worker's interpreter knows what it can import.
    check_failed_start(
        error_of(lambda: client.run(app="no_such_module:App", session="new")), "no_such_module"
    )
    error = error_of(lambda: client.run(app=f"{tmp_path}/bad.py:App", session="new"))
    assert (error.code, error.ran) == ("START_FAILED", "no")
    assert "SyntaxError" in str(error) and "bad.py" in str(error)


def test_a_hanging_start_ends_with_its_callers_patience(client: LocalClient) -> None:
    def one(app: str) -> None:
        with within(0.5 + AFTER_DEADLINE_SECONDS):
            error = error_of(lambda: client.run(app=zoo(app), session="new", timeout=0.5))
        assert (error.code, error.ran) == ("TIMEOUT", "no")

    with undisturbed(client.address):
        together(one, HANGING)


def test_a_start_past_start_timeout_leaves_nothing() -> None:
    with warmd.testing.daemon(start_timeout=START_SECONDS) as client:

        def one(app: str) -> None:
            call = client.submit(app=zoo(app), session="new", timeout=60)
            behind = client.submit(session=call.session_id, function="run")
            pid = until(lambda: client.sessions.get(call.session_id).pid)
            with within(START_SECONDS + AFTER_DEADLINE_SECONDS):
                errors = [error_of(call.result), error_of(behind.result)]
            assert {(error.code, error.ran) for error in errors} == {("TIMEOUT", "no")}
            assert "start_timeout" in str(errors[0])
            await_gone([pid])

        together(one, HANGING)
        until(lambda: client.status().sessions == 0, TREE_SECONDS)


def test_a_slow_start_delays_nobody(client: LocalClient) -> None:
    slow = [client.submit(app=zoo(app), session="new") for app in HANGING * 3]
    ids = [call.session_id for call in slow]
    until(lambda: all(client.sessions.get(id).pid for id in ids))
    with undisturbed(client.address), within(OTHERS_SECONDS), client.session(zoo("Good")) as session:
        assert session.call("run").output["n"] == 1
    for call in slow:
        call.cancel()
        assert (error_of(call.result).code, call.status().code) == ("CANCELLED", "CANCELLED")


def test_the_search_for_a_class_in_a_large_file_disturbs_nobody(client: LocalClient, tmp_path: Path) -> None:
    line = "    {'a': [1, 2, 3], 'b': ('x', 'y', -1.5), 'c': None, 'd': True},\n"
    source = "class App:\n    def run(self):\n        return len(TABLE)\nTABLE = [\n" + line * 15_000 + "]\n"
    (tmp_path / "large.py").write_text(source)
    with undisturbed(client.address):
        result = client.run(app=str(tmp_path / "large.py"), session="new")
    assert result.output == 15_000
    (tmp_path / "larger.py").write_text(source + "#" * 2**20)
    error = error_of(lambda: client.run(app=str(tmp_path / "larger.py")))
    assert error.code == "APP_NOT_FOUND" and "larger.py:App" in str(error) and str(2**20) in str(error)
    assert client.run(app=f"{tmp_path / 'larger.py'}:App", session="new").output == 15_000


def test_strangers_at_the_door_delay_no_start(client: LocalClient) -> None:
    """They connect and say nothing; so many that the last of them wait to be let in."""
    door = places.door_path(client.run_dir)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(150)]
    for one in silent:
        one.connect(str(door))
    with within(SILENT_SECONDS), client.session(zoo("Good")) as session:
        assert session.call("run").output["n"] == 1
    for one in silent:
        one.close()


def test_fifty_starts_at_once_all_come_up(client: LocalClient) -> None:
    calls = [client.submit(app=zoo("Good"), session="new", timeout=50) for _ in range(STORM)]
    results = [call.result() for call in calls]
    assert len({result.session_id for result in results}) == STORM
    assert len({result.output["pid"] for result in results}) == STORM
    assert client.status().sessions == STORM


def test_an_app_that_fails_again_and_again_costs_no_place_and_no_descriptor() -> None:
    with warmd.testing.daemon(max_sessions=2) as client:

        def descriptors() -> int:
            until(lambda: client.status().sessions == 0, TREE_SECONDS)
            return len(os.listdir(f"/proc/{client.daemon_pid}/fd"))

        def fail(app: str) -> None:
            check_failed_start(error_of(lambda: client.run(app=zoo(app), session="new")), FAILING[app])
            until(lambda: client.status().sessions < 2)

        for app in ("SetupRaises", "SetupDies", "SetupForks"):
            fail(app)  # from then on there is a template of each
        before = descriptors()
        for app in ("SetupRaises", "SetupDies", "SetupForks") * 5:
            fail(app)
        until(lambda: descriptors() <= before)


def test_the_start_of_a_client_that_was_killed_is_given_up(client: LocalClient) -> None:
    code = f"""
import warmd
client = warmd.Client({client.address!r})
print(client.submit(app={zoo("SetupHangs")!r}, session="new").session_id, flush=True)
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        session = process.stdout.readline().strip()
        pid = until(lambda: client.sessions.get(session).pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with within(AT_ONCE_SECONDS + TREE_SECONDS):
            await_gone([pid])
        until(lambda: client.sessions.get(session).state == "ended")
