"""What pages are told of the daemon: all of it, as it happens, and only what is theirs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import warmd
from tests.faults.watch import successor, until
from tests.http.gatewayprocess import GatewayProcess
from tests.http.pagelines import is_in, page, states
from warmd.http import live
from warmd.http.keys import ANYBODY, Keys
from warmd.http.live import Live
from warmd.http.liveroutes import MOST_LOGS_OF_KEY
from warmd.http.problems import HttpProblem
from warmd.owndaemon import LocalClient
from warmd.protocol import places
from warmd.protocol.errors import DaemonLost, DaemonUnavailable

APPS = Path(__file__).parent / "apps"


def test_first_all_then_what_changes(gateway: GatewayProcess, daemon: LocalClient) -> None:
    with daemon.session("counter", labels={"of": "me"}) as old, page(gateway.url) as lines:
        first = lines.next()
        assert first["type"] == "snapshot"
        assert first["gateway"] == {
            "version": warmd.__version__, "key": "anybody", "may": ["run", "read", "admin"], "open": True,
        }  # fmt: skip
        assert first["daemon"]["boot"] == daemon.status()["boot"]
        (row,) = [row for row in first["sessions"] if row["id"] == old.id]
        assert (row["app"], row["labels"], row["pid"]) == ("counter", {"of": "me"}, old.info()["pid"])
        with daemon.session("counter", session_timeout=20) as new:
            list(new.stream("count_up", {"n": 3}))
        told = lines.until(is_in(new.id, "ended"))
    assert "sessions" not in told[0] or not states(told, old.id), "what has not changed is not told again"
    rows = [row for line in told for row in line.get("sessions", ()) if row["id"] == new.id]
    idle = [row for row in rows if row["state"] == "idle"]
    assert all(0 < row["expires_at"] - told[-1]["now"] <= 20 for row in idle)
    assert (rows[-1]["reason"], rows[-1]["expires_at"]) == ("it was ended on request", None)
    calls = [call for line in told for call in line.get("calls", ())]
    opened, counted = [call for call in calls if call["session"] == new.id]
    assert (opened["cold"], counted["cold"], counted["function"]) == (True, False, "count_up")
    assert opened["spawn"] > 0 and 0 <= counted["first"] <= counted["run"]
    assert sum(line.get("calls_total", 0) for line in told) == 2


def test_a_call_that_runs_and_how_far_it_is(
    gateway: GatewayProcess, daemon: LocalClient, tmp_path: Path
) -> None:
    with page(gateway.url) as lines, daemon.session("zoo") as session:
        lines.next()
        call = session.submit("wait_for", {"path": str(tmp_path / "gate")})
        told = lines.until(is_in(session.id, "busy"))
        (row,) = [row for row in told[-1]["sessions"] if row["id"] == session.id]
        assert row["running"]["function"] == "wait_for"
        assert row["running"]["call"] == call.call_id
        assert abs(row["running"]["since"] - told[-1]["now"]) < 5
        (tmp_path / "gate").touch()
        call.result(timeout=20)
        lines.until(is_in(session.id, "idle"))


def test_what_processes_use(gateway: GatewayProcess, daemon: LocalClient) -> None:
    with daemon.session("counter") as session, page(gateway.url) as lines:
        told = lines.until(lambda line: session.id in line.get("usage", {}))
        memory, cpu = told[-1]["usage"][session.id]
        assert memory > 5_000_000 and 0 <= cpu < 4
        assert told[-1]["daemon"]["memory"] > 10_000_000


def test_a_daemon_that_is_lost_and_is_there_again(tmp_path: Path) -> None:
    with (
        warmd.testing.daemon() as daemon,
        GatewayProcess(daemon.address, tmp_path) as gateway,
        page(gateway.url) as lines,
    ):
        boot = lines.next()["daemon"]["boot"]
        daemon.stop()
        (*_, down) = lines.until(lambda line: line["type"] == "down")
        assert "there is no daemon" in down["detail"] or "no daemon" in down["detail"]
        with successor(places.path_of(daemon.address).parent):
            (*_, again) = lines.until(lambda line: line["type"] == "snapshot")
            assert again["daemon"]["boot"] != boot


@pytest.fixture(scope="module")
def keyed(daemon: LocalClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(daemon.address, tmp_path_factory.mktemp("keyed"), open=False) as found:
        yield found


# Two keys, of which each has sessions of its own


def test_each_sees_its_own_and_an_admin_all(keyed: GatewayProcess, daemon: LocalClient) -> None:
    keys = Keys(keyed.folder / "keys")
    one, two, root = keys.add("one"), keys.add("two"), keys.add("root", ["admin"])
    body = {"app": "counter", "session": "new", "wait": True}
    told = keyed.client.post("/apps/run", json=body, headers={"Authorization": f"Bearer {one}"})
    id = told.json()["data"]["session_id"]
    with daemon.session("counter") as native:
        seen = {}
        for name, key in (("one", one), ("two", two), ("root", root)):
            with page(keyed.url, key) as lines:
                first = lines.next()
                seen[name] = {row["id"] for row in first["sessions"]} & {id, native.id}
                owned = {call["session"] for call in first["calls"]} & {id, native.id}
                assert owned == seen[name]
        assert seen == {"one": {id}, "two": set(), "root": {id, native.id}}


def test_each_sees_its_own_calls_of_the_pool_and_nothing_of_the_machine(keyed: GatewayProcess) -> None:
    keys = Keys(keyed.folder / "keys")
    mine, other = keys.add("mine"), keys.add("other")
    with page(keyed.url, mine) as lines, page(keyed.url, other) as others:
        assert {"pid", "address", "memory"}.isdisjoint(lines.next()["daemon"])
        others.next()
        run = {"app": "counter", "wait": True}
        keyed.client.post("/apps/run", json=run, headers={"Authorization": f"Bearer {mine}"})
        (*_, told) = lines.until(lambda line: line.get("calls"))
        assert [(call["app"], call["session"]) for call in told["calls"]] == [("counter", None)]
        keyed.client.post("/apps/run", json=run, headers={"Authorization": f"Bearer {other}"})
        (*_, told) = others.until(lambda line: line.get("calls"))
        assert len(told["calls"]) == 1, "of the first it was told nothing"


def test_who_has_no_key_sees_nothing_but_the_page(keyed: GatewayProcess) -> None:
    for path, status in (("/", 200), ("/page/index.html", 200), ("/live", 401), ("/apps", 401)):
        assert keyed.client.get(path).status_code == status


def test_a_key_that_may_only_run_may_not_look(keyed: GatewayProcess) -> None:
    key = Keys(keyed.folder / "keys").add("runner", ["run"])
    answer = keyed.client.get("/live", headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "NOT_ALLOWED")


def test_a_key_that_is_revoked_is_told_no_more(keyed: GatewayProcess, daemon: LocalClient) -> None:
    keys = Keys(keyed.folder / "keys")
    with page(keyed.url, keys.add("gone", ["admin"])) as lines:
        lines.next()
        keys.revoke("gone")
        with daemon.session("counter"), pytest.raises(httpx.RemoteProtocolError):
            lines.until(lambda _line: False)


# What a session writes


def test_what_was_written_and_what_will_be(gateway: GatewayProcess, daemon: LocalClient) -> None:
    with daemon.session("zoo") as session:
        session.call("say", {"text": "one\ntwo"})
        whole = gateway.client.get(f"/sessions/{session.id}/logs")
        assert whole.headers["content-type"] == "text/plain; charset=utf-8"
        assert whole.text.splitlines()[-2:] == ["one", "two"]
        assert gateway.client.get(f"/sessions/{session.id}/logs?tail=1").text == "two\n"
        url = f"{gateway.url}/sessions/{session.id}/logs?tail=0&follow=true"
        with httpx.stream("GET", url, timeout=20) as response:
            session.call("say", {"text": "three"})
            chunks = response.iter_text()
            assert next(chunks) == "three\n"
            session.end()
            assert "".join(chunks) == "", "it ends with its session"


def test_one_key_cannot_have_all_logs(keyed: GatewayProcess, daemon: LocalClient) -> None:
    keys = Keys(keyed.folder / "keys")
    greedy = {"Authorization": f"Bearer {keys.add('greedy', ['admin'])}"}
    with daemon.session("counter") as session, contextlib.ExitStack() as stack:
        path = f"{keyed.url}/sessions/{session.id}/logs?follow=true"
        with httpx.Client(headers=greedy, timeout=20) as client:
            for _ in range(MOST_LOGS_OF_KEY):
                assert stack.enter_context(client.stream("GET", path)).status_code == 200
            refused = client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (429, "QUEUE_FULL")
            other = {"Authorization": f"Bearer {keys.add('modest', ['admin'])}"}
            assert stack.enter_context(client.stream("GET", path, headers=other)).status_code == 200
            stack.close()


@pytest.mark.parametrize(
    ("query", "said"),
    [("tail=-1", "number of lines"), ("tail=x", "or all"), ("follow=1", "true or false")],
)
def test_odd_wishes_are_refused(gateway: GatewayProcess, daemon: LocalClient, query: str, said: str) -> None:
    with daemon.session("counter") as session:
        answer = gateway.client.get(f"/sessions/{session.id}/logs?{query}")
    assert answer.status_code == 400 and said in answer.json()["detail"]


def test_of_a_session_that_is_none(gateway: GatewayProcess) -> None:
    answer = gateway.client.get("/sessions/sess_nix/logs?follow=true")
    assert (answer.status_code, answer.json()["code"]) == (404, "SESSION_NOT_FOUND")


# What a form needs to know


def test_their_names_and_not_where_they_lie(http: httpx.Client) -> None:
    found = http.get("/apps").json()["data"]
    assert {"name": "counter", "target": "warmd.apps.counter:Counter"} in found
    assert str(APPS) not in json.dumps(found)


def test_what_functions_take_and_give(http: httpx.Client) -> None:
    told = http.get("/apps/counter").json()["data"]
    (count_up,) = [one for one in told["functions"] if one["name"] == "count_up"]
    assert count_up["streams"] and count_up["input_schema"]["type"] == "object"
    assert "found" not in told


@pytest.mark.parametrize(
    ("app", "status", "code"),
    [("nix", 404, "APP_NOT_FOUND"), ("x.py", 400, "INVALID"), ("a:B", 400, "INVALID")],
)
def test_what_is_no_app(http: httpx.Client, app: str, status: int, code: str) -> None:
    answer = http.get(f"/apps/{app}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


class FakeClient:
    """A daemon that tells what the test puts in."""

    address = "tcp://elsewhere:1"

    def __init__(self) -> None:
        self.news: asyncio.Queue[Any] = asyncio.Queue()
        self.watching = 0

    async def status(self) -> dict[str, Any]:
        return {"pid": 1, "boot": "b", "memory": 1, "draining": False}

    def watch(self) -> FakeClient:
        return self

    async def __aenter__(self) -> FakeClient:
        self.watching += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.watching -= 1

    def __aiter__(self) -> FakeClient:
        return self

    async def __anext__(self) -> Any:
        value = await self.news.get()
        if isinstance(value, Exception):
            raise value
        return value


def live_of(client: FakeClient) -> Live:
    return Live(client, True, lambda _call: None)  # type: ignore[arg-type]


def told(**more: Any) -> dict[str, Any]:
    return {"sessions": [], "calls": [], "ended": 0, "draining": False, **more}


# Pages of one gateway, which are told by one stream of the daemon


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


async def test_the_last_page_takes_the_stream_with_it(client: FakeClient) -> None:
    pages = live_of(client)
    one, two = pages.lines(ANYBODY, int), pages.lines(ANYBODY, int)
    client.news.put_nowait(told())
    assert json.loads(await anext(one))["type"] == json.loads(await anext(two))["type"] == "snapshot"
    assert client.watching == 1
    await one.aclose()
    assert client.watching == 1
    await two.aclose()
    await asyncio.sleep(0)
    assert client.watching == 0


async def test_a_page_that_is_slow_is_told_of_several_changes_together(client: FakeClient) -> None:
    pages = live_of(client)
    lines = pages.lines(ANYBODY, int)
    client.news.put_nowait(told())
    await anext(lines)
    for _ in range(3):
        client.news.put_nowait(told(ended=5))
    while not client.news.empty():
        await asyncio.sleep(0)
    assert json.loads(await anext(lines))["calls_total"] == 15
    await lines.aclose()


async def test_a_beat_where_nothing_is_new_and_one_line_for_a_loss(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(live, "RETRY_SECONDS", 0.01)
    pages = live_of(client)
    lines = pages.lines(ANYBODY, int)
    client.news.put_nowait(told())
    kinds = [json.loads(await anext(lines))["type"] for _ in range(2)]
    client.news.put_nowait(DaemonUnavailable("gone"))
    kinds += [json.loads(await anext(lines))["type"] for _ in range(2)]
    client.news.put_nowait(told(draining=True))
    (again,) = [json.loads(await anext(lines))]
    assert kinds == ["snapshot", "beat", "down", "beat"]
    assert (again["type"], again["daemon"]["draining"]) == ("snapshot", True)
    await lines.aclose()


async def test_what_is_over_is_forgotten_at_last(client: FakeClient) -> None:
    pages = live_of(client)
    lines = pages.lines(ANYBODY, int)
    info = {
        "id": "", "kind": "session", "app": "a", "name": None, "labels": {}, "state": "ended",
        "created": 0.0, "last_call": None, "calls": 0, "queued": 0, "idle_timeout": 1.0, "origin": "fork",
        "pid": None, "gpu": None, "reason": "x", "running_call": None, "expires_in": None,
        "held_for": None,
        "lives_for": None, "memory": None, "progress": None,
    }  # fmt: skip
    for number in range(500):
        client.news.put_nowait(told(sessions=[{**info, "id": f"sess_{number}"}]))
    await anext(lines)
    while not client.news.empty():
        await asyncio.sleep(0)
    assert pages._known is not None
    assert len(pages._known.owners) < 500
    assert len(pages._known.gone) == 100
    await lines.aclose()


def test_an_open_page_does_not_hold_up_the_end(daemon: LocalClient, tmp_path: Path) -> None:
    with GatewayProcess(daemon.address, tmp_path) as gateway, page(gateway.url) as lines:
        lines.next()
        gateway.process.terminate()
        with pytest.raises(httpx.RemoteProtocolError):
            lines.until(lambda _line: False)
        until(lambda: gateway.process.poll() is not None)


async def test_one_loss_is_not_told_and_the_second_is(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the daemon is there again at once, what it tells first says all."""
    monkeypatch.setattr(live, "LOOK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(live, "RETRY_SECONDS", 0.0)
    lines = live_of(client).lines(ANYBODY, int)
    client.news.put_nowait(told())
    await anext(lines)
    client.news.put_nowait(DaemonLost("gone"))
    client.news.put_nowait(told())
    assert json.loads(await anext(lines))["type"] == "snapshot"
    for _ in range(2):
        client.news.put_nowait(DaemonLost("gone"))
    assert json.loads(await anext(lines))["type"] == "down"
    await lines.aclose()


async def test_what_nobody_foresaw_is_told_and_tried_again(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "RETRY_SECONDS", 0.0)
    lines = live_of(client).lines(ANYBODY, int)
    client.news.put_nowait(told(sessions=None))
    down = json.loads(await anext(lines))
    assert (down["type"], "TypeError" in down["detail"]) == ("down", True)
    client.news.put_nowait(told())
    assert json.loads(await anext(lines))["type"] == "snapshot"
    await lines.aclose()


async def test_pages_are_bounded(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_PAGES_OF_KEY", 1)
    pages = live_of(client)
    pages.check_room(ANYBODY)
    lines = pages.lines(ANYBODY, int)
    client.news.put_nowait(told())
    await anext(lines)
    with pytest.raises(HttpProblem, match="close some"):
        pages.check_room(ANYBODY)
    await lines.aclose()
    pages.check_room(ANYBODY)
