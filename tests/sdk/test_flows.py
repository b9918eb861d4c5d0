"""The face, against a real daemon: sessions, streams, the manager, classes, deaths, autostart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.sdk.conftest import zoo

GOOD = zoo("Good")
HANGS = zoo("Hangs")


def await_end(pid: int) -> None:
    """Wait until a process that is no child of this one is gone."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            assert select.select([pidfd], [], [], 20)[0], f"process {pid} is still there"
        finally:
            os.close(pidfd)


def test_a_session_keeps_its_state_between_calls(client: warmd.Client) -> None:
    first = client.run({"app": "counter", "session": "new", "session_timeout": 60})
    again = client.run({"app": "counter", "session": first.session_id})
    assert (first.output["n"], again.output["n"]) == (1, 2)
    assert first.output["pid"] == again.output["pid"]
    assert (first.timing.cold, again.timing.cold) == (True, False)
    assert first.timing.spawn > 0
    client.sessions.end(str(first.session_id))
    with pytest.raises(warmd.SessionEnded, match="session") as caught:
        client.run(session=first.session_id)
    assert caught.value.ran == "no"


def test_a_handle_opens_calls_and_ends(client: warmd.Client) -> None:
    with client.session("counter", session_timeout=60, setup={"start": 5}, labels={"team": "a"}) as s:
        assert s.call("incr", {"by": 2}).output == {"n": 7}
        assert [part["i"] for part in s.stream("count_up", {"n": 3})] == [0, 1, 2]
        assert s.submit("get").result(timeout=10)["output"] == {"n": 7}
        info = s.info()
        assert (info.id, info["labels"], info.state, info.idle_timeout) == (s.id, {"team": "a"}, "idle", 60.0)
        assert s.keepalive().id == s.id
        assert s.id in [one.id for one in client.sessions.list()]
        assert client.session(id=s.id).run().output["n"] == 8
    assert s.info().state == "ended"
    assert s.end().state == "ended"


def test_leaving_a_block_whose_session_is_gone_is_no_error(client: warmd.Client) -> None:
    with client.session(zoo("Dies")) as s, pytest.raises(warmd.WorkerDied, match="SIGKILL"):
        s.call("kill")
    with client.session("counter") as s:
        s.end()


def test_a_named_session_is_joined_and_outlives_the_block(client: warmd.Client) -> None:
    with client.session("counter", name="shared") as one, client.session("counter", name="shared") as other:
        assert one.id == other.id
    assert one.info().state == "idle"
    one.end()


def test_calls_without_a_session_use_the_pool(client: warmd.Client) -> None:
    result = client.run(app=GOOD, input=1)
    assert result.session_id is None
    assert result.output["input"] == 1


def test_values_come_back_as_they_were(client: warmd.Client) -> None:
    value = {"a": (1, 2.5), "b": {3, 4}, 5: b"\0", "n": None, "t": "\0\U0001f600"}
    with client.session(GOOD) as s:
        assert s.call("echo", value).output == value


def test_a_stream_left_early_leaves_the_session_alive(client: warmd.Client, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with client.session(HANGS) as s:
        for part in s.stream("stream", {"path": str(note)}):
            if part == 100:
                break
        assert s.call("alive", timeout=10).output == 1
        assert note.read_text().startswith("closed after")


def test_a_cancelled_call_ends_and_its_session_lives(client: warmd.Client) -> None:
    with client.session(HANGS) as s:
        call = s.submit("sleep")
        while call.status()["progress"] is None:
            assert not call.done()
        assert call.cancel()
        with pytest.raises(warmd.CallCancelled):
            call.result(timeout=10)
        assert s.call("alive").output == 1


def test_an_async_client_cancels_with_its_task(address: str) -> None:
    async def work() -> None:
        async with warmd.AsyncClient(address) as client, client.session(HANGS) as s:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await s.call("sleep")
            assert (await s.call("alive")).output == 1
            assert [
                part async for part in client.stream(app="counter", function="count_up", input={"n": 200})
            ][-1] == {"i": 199}

    asyncio.run(work())


def test_the_manager_opens_another_session_when_its_own_is_gone(client: warmd.Client) -> None:
    manager = warmd.SessionManager(client, "counter", timeout=600)
    first = manager.run()
    assert manager.run().session_id == first.session_id == manager.session_id
    client.sessions.end(str(first.session_id))
    again = manager.run()
    assert again.session_id != first.session_id
    assert again.output["n"] == 1
    manager.end()
    assert manager.session_id is None


def test_the_manager_opens_sessions_of_a_bounded_age(client: warmd.Client) -> None:
    manager = warmd.SessionManager(client, "counter", max_lifetime="5m")
    info = client.sessions.get(str(manager.run().session_id))
    assert 0 < info.lives_for <= 300
    manager.end()
    with pytest.raises(warmd.Invalid, match="max_lifetime"):
        warmd.SessionManager(client, "counter", max_lifetime=0)


def test_the_manager_runs_init_first_in_each_new_session(client: warmd.Client) -> None:
    manager = warmd.SessionManager(client, GOOD, init={"action": "init"})
    assert manager.run().output["n"] == 2
    client.sessions.end(str(manager.session_id))
    assert manager.run().output["n"] == 2
    manager.end()


def test_the_manager_repeats_nothing_that_may_have_run(client: warmd.Client) -> None:
    manager = warmd.SessionManager(client, zoo("Dies"))
    with pytest.raises(warmd.WorkerDied):
        manager.run(function="kill")
    first = manager.session_id
    with pytest.raises(warmd.WorkerDied):
        manager.run(function="hard_exit")
    assert manager.session_id != first


def test_many_threads_of_a_manager_open_one_session(client: warmd.Client) -> None:
    manager = warmd.SessionManager(client, "counter")
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: manager.run(), range(12)))
    assert {one.session_id for one in results} == {manager.session_id}
    assert sorted(one.output["n"] for one in results) == list(range(1, 13))
    manager.end()


async def test_a_manager_of_an_async_client_is_awaited(address: str) -> None:
    async with warmd.AsyncClient(address) as client:
        manager = warmd.SessionManager(client, "counter")
        results = await asyncio.gather(*(manager.run() for _ in range(5)))
        assert len({one.session_id for one in results}) == 1
        await client.sessions.end(str(manager.session_id))
        assert (await manager.run()).output["n"] == 1
        await manager.end()


def test_a_class_of_a_script_works(address: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import warmd
            STEP = 10
            class Mine:
                def setup(self, config=None):
                    self.n = config or 0
                def run(self, input=None):
                    self.n += STEP
                    return self.n
            client = warmd.Client({address!r})
            with client.session(Mine, setup=5) as s:
                print(s.run().output, s.run().output)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.stderr) == ("15 25\n", "")


def test_logs_come_in_pieces(client: warmd.Client) -> None:
    with client.session(zoo("Junk")) as s:
        s.call("print", {"n": 3})
        assert b"junk 2" in b"".join(client.logs(s.id))
        assert b"".join(client.logs(s.id, tail=1)).count(b"\n") == 1


def test_eight_threads_with_two_hundred_calls_each(client: warmd.Client) -> None:
    with client.session("counter") as s, ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: [s.run().output["n"] for _ in range(200)], range(8)))
    assert all(mine == sorted(mine) for mine in counts)
    assert sorted(n for mine in counts for n in mine) == list(range(1, 1601))


def test_a_killed_daemon_is_told_within_a_second() -> None:
    with warmd.local() as client, client.session(HANGS) as s:
        call = s.submit("sleep")
        while call.status()["progress"] is None:
            pass
        threading.Timer(0.1, os.kill, (client.daemon_pid, signal.SIGKILL)).start()
        began = time.monotonic()
        with pytest.raises(warmd.DaemonLost, match="killed") as caught:
            call.result()
        assert time.monotonic() - began < 1.1
        assert caught.value.ran == "maybe"
        with pytest.raises(warmd.DaemonUnavailable):
            client.run(app="counter")


def test_a_local_daemon_ends_with_its_process() -> None:
    code = "import os, warmd; c = warmd.local(); print(c.daemon_pid, c.run_dir, flush=True); os.kill(0, 9)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        start_new_session=True,
    )
    pid, run_dir = done.stdout.split()
    await_end(int(pid))
    deadline = time.monotonic() + 5
    while Path(run_dir).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(run_dir).exists()


def test_every_setting_can_be_given_to_a_local_daemon(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "app.py").write_text("class App:\n    def run(self): return 1\n")
    with warmd.local(app_folders=[tmp_path], dispatch_ahead=0, classes=False) as client:
        assert client.run(app="own").output == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_sesions": 2}, "unknown setting 'max_sesions'; did you mean max_sessions?"),
        ({"max_sessions": "many"}, "setting max_sessions: 'many' is not a count"),
    ],
)
def test_a_local_daemon_that_cannot_start_names_the_keyword(given: dict[str, Any], said: str) -> None:
    with pytest.raises(warmd.DaemonUnavailable, match=re.escape(said)):
        warmd.local(**given)


@pytest.fixture
def own_run_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        monkeypatch.setenv("WARMD_RUN_DIR", folder)
        yield Path(folder)
        with warmd.Client(autostart=False) as client, contextlib.suppress(warmd.DaemonUnavailable):
            pid = client.status().pid
            client.stop(drain=1)
            await_end(pid)


def test_without_an_address_the_users_daemon_is_started_once_by_many(own_run_dir: Path) -> None:
    code = "import warmd; c = warmd.Client(); print(c.status().pid); c.close()"
    starts = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    pids = {one.communicate(timeout=50)[0] for one in starts}
    assert len(pids) == 1
    with warmd.Client() as client:
        assert {f"{client.status().pid}\n"} == pids
        assert client.address == f"unix://{own_run_dir}/warmd.sock"


@pytest.mark.usefixtures("own_run_dir")
def test_a_client_that_was_connected_starts_no_second_daemon() -> None:
    with warmd.Client() as client:
        pid = client.status().pid
        os.kill(pid, signal.SIGKILL)
        await_end(pid)
        # The connection's end may come a moment after the daemon's: then this call is lost with it.
        with pytest.raises((warmd.DaemonLost, warmd.DaemonUnavailable)):
            client.status()
        with pytest.raises(warmd.DaemonUnavailable, match="warmd start"):
            client.status()
    with warmd.Client(autostart=False) as client, pytest.raises(warmd.DaemonUnavailable):
        client.status()
    with warmd.Client() as client:
        assert client.status().pid != pid


def test_testing_gives_a_daemon_for_one_test() -> None:
    with warmd.testing.daemon(max_sessions=1) as client:
        assert client.status().max_sessions == 1
        with client.session("counter") as s:
            assert s.info().idle_timeout == 10
            with pytest.raises(warmd.NoRoom):
                client.session("counter")
