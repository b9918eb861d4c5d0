"""Streams without a client library: what goes over the wire, and what becomes of both ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

import warmd
from tests.faults.watch import successor, undisturbed, until, within
from tests.http.gatewayprocess import PATIENCE_SECONDS, GatewayProcess
from warmd.http.endless import _until_gone
from warmd.http.problems import HttpProblem
from warmd.http.task import REPEATED_INPUT_BYTES
from warmd.owndaemon import LocalClient

APPS = Path(__file__).parent / "apps"


@contextmanager
def following(gateway: GatewayProcess, id: str) -> Iterator[Iterator[str]]:
    """The lines, over a connection of its own."""
    with httpx.stream("GET", f"{gateway.url}/tasks/{id}/stream", timeout=PATIENCE_SECONDS) as answer:
        assert answer.status_code == 200
        yield answer.iter_lines()


def lines_of(http: httpx.Client, id: str) -> list[Any]:
    return [json.loads(line) for line in http.get(f"/tasks/{id}/stream").text.splitlines()]


def test_the_first_line_comes_at_once_and_first_and_last_are_the_whole_task(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    id = gateway.begin("wait_for", {"path": str(tmp_path / "gate")}, session="new")["id"]
    with ExitStack() as stack:
        with within(1.0):
            lines = stack.enter_context(following(gateway, id))
            first = json.loads(next(lines))
        (tmp_path / "gate").touch()
        *_, last = map(json.loads, lines)
    assert first.keys() == last.keys()
    assert "event" not in first and "data" not in first
    assert first["status"] in (2, 6, 7) and first["output"] is None
    assert (last["status"], last["output"], last["input"]) == (10, "done", {"path": str(tmp_path / "gate")})
    assert last["session_id"].startswith("sess_")


def test_each_part_is_a_line_and_the_last_part_is_the_result(gateway: GatewayProcess, tmp_path: Path) -> None:
    id = gateway.begin("step_by_step", {"n": 3, "folder": str(tmp_path)}, session="new")["id"]
    with following(gateway, id) as lines:
        told = (json.loads(line) for line in lines)
        for i in range(3):
            part = next(line for line in told if line["output"] is not None)
            assert (part["status"], part["output"]) == (7, {"i": i})
            (tmp_path / str(i)).touch()
        assert [(line["status"], line["output"]) for line in told] == [(10, {"i": 2})]


def test_many_parts_come_all_and_in_order(gateway: GatewayProcess, http: httpx.Client) -> None:
    id = gateway.begin("count_up", {"n": 3000}, session="new")["id"]
    lines = lines_of(http, id)
    outputs = [line["output"]["i"] for line in lines if line["output"]]
    assert outputs[-1] == 2999 and outputs == sorted(outputs)
    assert [line["status"] for line in lines].count(10) == 1  # also where parts are read after the end


def test_a_long_input_is_in_the_first_line_and_the_last(gateway: GatewayProcess, tmp_path: Path) -> None:
    input = {"n": 3, "folder": str(tmp_path) + "/" * REPEATED_INPUT_BYTES}
    id = gateway.begin("step_by_step", input, session="new")["id"]
    with following(gateway, id) as lines:
        first = json.loads(next(lines))
        for n in range(3):
            (tmp_path / str(n)).touch()
        *some, last = map(json.loads, lines)
    assert first["input"] == last["input"] == input
    assert all("input" not in line for line in some if line["output"])


async def test_a_reader_whose_body_does_not_come_is_gone() -> None:
    async def receive() -> Message:
        raise HttpProblem("BODY_STALLED", "nothing of the body has come")

    reader = asyncio.create_task(asyncio.Event().wait())
    await _until_gone(receive, reader)
    with pytest.raises(asyncio.CancelledError):
        await reader


def test_a_run_that_is_over_is_one_line(gateway: GatewayProcess, http: httpx.Client) -> None:
    task = gateway.run("count_up", {"n": 2}, session="new")
    assert lines_of(http, task["id"]) == [task]


def test_the_states_are_told(gateway: GatewayProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    opening = gateway.begin("run", session="new", setup={"gate": str(gate)})
    behind = gateway.begin("wait_for", {"path": str(gate)}, session=opening["session_id"])
    until(lambda: gateway.task(opening["id"])["status"] == 6)
    assert gateway.task(behind["id"])["status"] in (2, 6)
    with following(gateway, opening["id"]) as lines:
        assert json.loads(next(lines))["status"] == 6
        gate.touch()
        *_, last = map(json.loads, lines)
    states = [event["status"] for event in last["events"]]
    assert states[:2] == [2, 6] and states[-1] == 10 and states == sorted(states)


def test_two_streams_of_one_task_tell_the_same(gateway: GatewayProcess, tmp_path: Path) -> None:
    id = gateway.begin("step_by_step", {"n": 2, "folder": str(tmp_path)}, session="new")["id"]
    with following(gateway, id) as one, following(gateway, id) as two:
        for lines in (one, two):
            next(line for line in lines if '"i":0' in line)
        for i in range(2):
            (tmp_path / str(i)).touch()
        ends = [[json.loads(line) for line in lines][-1] for lines in (one, two)]
    assert ends[0] == ends[1] and ends[0]["output"] == {"i": 1}


def test_who_comes_again_begins_with_the_state_so_far(gateway: GatewayProcess, tmp_path: Path) -> None:
    id = gateway.begin("step_by_step", {"n": 2, "folder": str(tmp_path)}, session="new")["id"]
    with following(gateway, id) as lines:
        next(line for line in lines if '"i":0' in line)
    with following(gateway, id) as lines:
        assert json.loads(next(lines))["output"] == {"i": 0}
        for i in range(2):
            (tmp_path / str(i)).touch()
        assert [json.loads(line) for line in lines][-1]["output"] == {"i": 1}


def test_a_run_that_nobody_follows_is_told_with_its_latest_part(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    id = gateway.begin("step_by_step", {"n": 3, "folder": str(tmp_path)}, session="new")["id"]
    for i in range(3):
        until(lambda i=i: gateway.task(id)["output"] == {"i": i})  # type: ignore[misc]
        assert gateway.task(id)["status"] == 7
        (tmp_path / str(i)).touch()
    until(lambda: gateway.task(id)["status"] == 10)
    one = gateway.begin("pictures", {"n": 1, "folder": str(tmp_path / "other")}, app="filer")["id"]
    told = until(lambda: gateway.task(one)["output"])
    assert gateway.task(one)["output"] == told  # one file, however often it is asked for
    gateway.client.post(f"/tasks/{one}/cancel")


def test_events_for_who_asks_for_them(gateway: GatewayProcess, http: httpx.Client, tmp_path: Path) -> None:
    id = gateway.begin("step_by_step", {"n": 1, "folder": str(tmp_path)}, session="new")["id"]
    (tmp_path / "0").touch()
    answer = http.get(f"/tasks/{id}/stream", headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream"
    *events, nothing = answer.text.split("\n\n")
    assert nothing == ""
    kinds, tasks = zip(*(event.split("\ndata: ") for event in events), strict=True)
    assert set(kinds[:-1]) == {"event: update"} and kinds[-1] == "event: done"
    assert json.loads(tasks[-1])["status"] == 10


def test_any_other_accept_gets_lines(gateway: GatewayProcess, http: httpx.Client) -> None:
    id = gateway.run("echo", 1)["id"]
    answer = http.get(f"/tasks/{id}/stream", headers={"accept": "application/json"})
    assert answer.headers["content-type"] == "application/x-ndjson"


def test_silence_is_broken_by_the_same_line(daemon: LocalClient, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with GatewayProcess(daemon.address, tmp_path, repeat_seconds=0.2) as gateway:
        id = gateway.begin("wait_for", {"path": str(gate)}, session="new")["id"]
        with following(gateway, id) as lines:
            told = [json.loads(next(lines)) for _ in range(6)]
            gate.touch()
            *_, last = map(json.loads, lines)
    assert {line["id"] for line in told} == {id} and told[-1]["status"] == 7 and last["output"] == "done"


@pytest.mark.parametrize(("last", "status"), [("fine", 10), (None, 11)])
def test_a_part_that_no_json_can_tell_is_left_out_and_an_end_fails_the_run(
    gateway: GatewayProcess, http: httpx.Client, last: Any, status: int
) -> None:
    id = gateway.begin("odd_on_the_way", {"last": last}, session="new")["id"]
    end = lines_of(http, id)[-1]
    assert (end["status"], end["output"]) == (status, last)
    assert status == 10 or "cannot be told" in end["error"]


@pytest.mark.alone
def test_who_does_not_read_costs_bounded_memory_and_disturbs_nobody(
    daemon: LocalClient, tmp_path: Path
) -> None:
    with GatewayProcess(daemon.address, tmp_path) as gateway, undisturbed(daemon.address, 0.5):
        gateway.run("run", session="new")
        before = resident(gateway)
        id = gateway.begin("pour", {"n": 2000, "size": 20_000}, session="new")["id"]
        with socket.create_connection(address(gateway)) as lazy:
            lazy.sendall(f"GET /tasks/{id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert lazy.recv(20).startswith(b"HTTP/1.1 200")
            until(lambda: gateway.task(id)["status"] == 10)
            grown = resident(gateway) - before
            assert grown < 30 * 2**20, f"{grown / 2**20:.0f} MiB of 40"
            with within(1.5):
                gateway.stop()
            assert ended_badly(lazy)


def ended_badly(reader: socket.socket) -> bool:
    """Whether what is left of a chunked answer ends with a reset, or without its last chunk."""
    reader.settimeout(PATIENCE_SECONDS)
    said = b""
    try:
        while some := reader.recv(65536):
            said = (said + some)[-16:]
    except ConnectionResetError:
        return True
    return not said.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_cut_is_no_clean_end_on_the_wire(
    daemon: LocalClient, tmp_path: Path, how: signal.Signals
) -> None:
    with GatewayProcess(daemon.address, tmp_path) as gateway:
        id = gateway.begin("wait_for", {"path": str(tmp_path / "gate")}, session="new")["id"]
        with socket.create_connection(address(gateway)) as reader:
            reader.sendall(f"GET /tasks/{id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = reader.recv(65536).lower()
            assert b"transfer-encoding: chunked" in head and b"content-length" not in head
            gateway.stop(how)
            assert ended_badly(reader)
    (tmp_path / "gate").touch()


def test_who_leaves_leaves_nothing_behind(daemon: LocalClient, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with GatewayProcess(daemon.address, tmp_path) as gateway:
        id = gateway.begin("wait_for", {"path": str(gate)}, session="new")["id"]
        held = descriptors(gateway)
        for _ in range(20):
            with socket.create_connection(address(gateway)) as reader:
                reader.sendall(f"GET /tasks/{id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert reader.recv(20).startswith(b"HTTP/1.1 200")
        until(lambda: descriptors(gateway) <= held)
        gate.touch()
        assert lines_of(gateway.client, id)[-1]["output"] == "done"


def test_a_gateway_that_stops_cuts_its_streams(daemon: LocalClient, tmp_path: Path) -> None:
    with GatewayProcess(daemon.address, tmp_path) as gateway:
        id = gateway.begin("wait_for", {"path": str(tmp_path / "gate")}, session="new")["id"]
        with following(gateway, id) as lines:
            next(lines)
            with within(3.0):
                gateway.stop()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
    (tmp_path / "gate").touch()


def test_the_next_gateway_finds_the_task_and_goes_on(daemon: LocalClient, tmp_path: Path) -> None:
    with GatewayProcess(daemon.address, tmp_path) as gateway:
        input = {"n": 3, "folder": str(tmp_path)}
        begun = gateway.begin("step_by_step", input, session="new", session_timeout=20)
        with following(gateway, begun["id"]) as lines:
            next(line for line in lines if '"i":0' in line)
            (tmp_path / "0").touch()
            next(line for line in lines if '"i":1' in line)
            gateway.stop(signal.SIGKILL)
    with GatewayProcess(daemon.address, tmp_path) as gateway, following(gateway, begun["id"]) as lines:
        assert json.loads(next(lines))["status"] == 7
        assert json.loads(next(lines))["output"] == {"i": 1}
        (tmp_path / "1").touch()
        (tmp_path / "2").touch()
        *_, last = map(json.loads, lines)
        facts = ("id", "session_id", "input", "created_at", "session_timeout", "function")
        assert [last[fact] for fact in facts] == [begun[fact] for fact in facts]
        assert (last["status"], last["output"]) == (10, {"i": 2})


def test_the_daemons_death_ends_the_stream_with_a_line_that_says_so(tmp_path: Path) -> None:
    with (
        warmd.testing.daemon(app_folders=str(APPS)) as daemon,
        GatewayProcess(daemon.address, tmp_path) as gateway,
    ):
        input = {"path": str(tmp_path / "gate")}
        mine = gateway.begin("wait_for", input, session="new")
        shared = gateway.begin("wait_for", input)
        until(lambda: gateway.task(mine["id"])["status"] == 7)
        with following(gateway, mine["id"]) as lines, within(5.0):
            next(lines)
            os.kill(daemon.daemon_pid, signal.SIGKILL)
            *_, last = map(json.loads, lines)
        assert (last["status"], last["error_code"], last["ran"]) == (11, "DAEMON_LOST", "maybe")
        assert "session" in last["error"]
        end = gateway.task(shared["id"])
        assert end["status"] == 11 and "session" not in end["error"]
        refused = gateway.client.post("/apps/run", json={"app": "zoo"})
        assert (refused.status_code, refused.json()["code"]) == (503, "DAEMON_UNAVAILABLE")
        with successor(daemon.run_dir, f"--setting=app_folders={APPS}"):
            assert gateway.task(mine["id"])["status"] == 11
            assert gateway.run("echo", 1, session="new")["output"] == 1
            body = {"app": "zoo", "session": mine["session_id"]}
            answer = gateway.client.post("/apps/run", json=body)
            assert answer.status_code == 404 and "session not found" in answer.json()["detail"]


def address(gateway: GatewayProcess) -> tuple[str, int]:
    url = httpx.URL(gateway.url)
    assert url.port is not None
    return url.host, url.port


def resident(gateway: GatewayProcess) -> int:
    pages = Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def descriptors(gateway: GatewayProcess) -> int:
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def test_with_an_offset_all_parts_come_also_of_a_run_that_is_over(
    gateway: GatewayProcess, http: httpx.Client
) -> None:
    task = gateway.run("count_up", {"n": 40}, session="new")
    for offset in (0, 25):
        lines = http.get(f"/tasks/{task['id']}/stream?offset={offset}").text.splitlines()
        *parts, last = map(json.loads, lines)
        assert [part["output"] for part in parts] == [{"i": i} for i in range(offset, 40)]
        assert {part["status"] for part in parts} == {7} and last["status"] == 10
    beyond = http.get(f"/tasks/{task['id']}/stream?offset=4000").text.splitlines()
    assert [json.loads(line)["status"] for line in beyond] == [10]
    assert http.get(f"/tasks/{task['id']}/stream").text.count("\n") == 1
    assert http.get(f"/tasks/{task['id']}/stream?offset=-1").status_code == 400
