"""inference.sh's Python client, as it is published, against the gateway: blocking and asyncio."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import aiohttp
import inferencesh
import pytest
from inferencesh import APIError, AsyncInference, Inference, TaskStatus
from inferencesh.client import TaskStream

from tests.faults.watch import until, within
from tests.http.gatewayprocess import GatewayProcess
from tests.http.relay import Relay
from warmd.owndaemon import LocalClient

Params = dict[str, Any]


@pytest.fixture
def client(gateway: GatewayProcess) -> Inference:
    return inferencesh.inference(api_key="wk_any", base_url=gateway.url)


@pytest.fixture
def aclient(gateway: GatewayProcess) -> AsyncInference:
    return inferencesh.async_inference(api_key="wk_any", base_url=gateway.url)


def refused(work: Any) -> APIError:
    with pytest.raises(APIError) as caught:
        work()
    return caught.value


# Runs


def test_a_session_is_opened_and_used(client: Inference) -> None:
    opened = client.run({"app": "zoo", "input": {"a": 1}, "session": "new", "session_timeout": 25})
    assert opened["status"] == TaskStatus.COMPLETED and opened["input"] == {"a": 1}
    assert opened["output"] == {"input": {"a": 1}, "n": 1, "config": None}
    id = opened["session_id"]
    again = client.run({"app": "zoo", "input": {"a": 2}, "session": id})
    assert (again["output"]["n"], again["session_id"]) == (2, id)
    assert client.sessions.get(id)["idle_timeout"] == 25


def test_a_run_without_a_session(client: Inference) -> None:
    task = client.run({"app": "zoo", "function": "echo", "input": "said"})
    assert task["output"] == "said" and "session_id" not in task


def test_setup_is_of_the_new_session(client: Inference) -> None:
    task = client.run({"app": "zoo", "input": {}, "session": "new", "setup": {"size": 3}})
    assert task["output"]["config"] == {"size": 3}


@pytest.mark.parametrize("app", ["zoo:echo", "me/zoo@7a1b:echo", "fn/me/zoo@latest:echo"])
def test_references_to_apps(client: Inference, app: str) -> None:
    assert client.run({"app": app, "input": [1, None, "x"]})["output"] == [1, None, "x"]


def test_fields_for_the_cloud_mean_nothing(client: Inference) -> None:
    params = {"app": "zoo:echo", "input": 1, "infra": "cloud", "workers": ["w1"], "metadata": {}}
    assert client.run(params)["output"] == 1


def test_not_waited_for(client: Inference, tmp_path: Path) -> None:
    input = {"path": str(tmp_path / "gate")}
    task = client.run({"app": "zoo", "function": "wait_for", "input": input, "session": "new"}, wait=False)
    assert task["status"] == TaskStatus.QUEUED and task["session_id"].startswith("sess_")
    assert client.tasks.get(task["id"]).data["function"] == "wait_for"
    (tmp_path / "gate").touch()
    assert client.tasks.wait_for_completion(task["id"])["output"] == "done"


def test_a_generators_parts(client: Inference, tmp_path: Path) -> None:
    input = {"n": 4, "folder": str(tmp_path)[1:]}
    params = {"app": "zoo", "function": "step_by_step", "input": input, "session": "new"}
    outputs = []
    stream = client.run(params, stream=True)
    assert isinstance(stream, TaskStream)
    with stream:
        for update in stream:
            assert update["session_id"] and update["input"] == input
            if update["output"] and update["output"] not in outputs:
                outputs.append(update["output"])
                (tmp_path / str(len(outputs) - 1)).touch()
    assert outputs == [{"i": i} for i in range(4)]
    assert stream.result is not None and stream.result["status"] == TaskStatus.COMPLETED


def test_many_parts_and_the_last_is_the_result(client: Inference) -> None:
    task = client.run({"app": "zoo", "function": "count_up", "input": {"n": 2000}, "session": "new"})
    assert task["output"] == {"i": 1999}
    (only,) = client.tasks.stream(task["id"])
    assert only["output"] == {"i": 1999}


def test_a_long_silence(daemon: LocalClient, tmp_path: Path) -> None:
    """The same line again counts as a sign of life; heartbeats would not."""
    gate = tmp_path / "gate"
    with GatewayProcess(daemon.address, tmp_path, repeat_seconds=0.1) as gateway:
        client = inferencesh.inference(api_key="k", base_url=gateway.url)
        params = {"app": "zoo", "function": "wait_for", "input": {"path": str(gate)}, "session": "new"}
        stream = iter(client.run(params, stream=True))
        assert all(next(stream)["output"] is None for _ in range(10))
        gate.touch()
        assert [*stream][-1]["output"] == "done"


def test_a_stream_that_is_cut_is_taken_up_again(gateway: GatewayProcess, tmp_path: Path) -> None:
    with Relay(gateway.url) as relay:
        client = inferencesh.inference(api_key="k", base_url=relay.url)
        params = {
            "app": "zoo", "function": "step_by_step",
            "input": {"n": 2, "folder": str(tmp_path)[1:]}, "session": "new",
        }  # fmt: skip
        seen = []
        for update in client.run(params, stream=True, reconnect_delay_ms=10):
            if update["output"] and update["output"] not in seen:
                seen.append(update["output"])
                if len(seen) == 1:
                    relay.cut()
                (tmp_path / str(len(seen) - 1)).touch()
    assert seen == [{"i": 0}, {"i": 1}] and update["status"] == TaskStatus.COMPLETED


# Failures


def test_an_apps_error_is_its_own(client: Inference) -> None:
    params = {"app": "zoo", "function": "raise_error", "input": {"text": "no such row"}, "session": "new"}
    with pytest.raises(RuntimeError, match=r"^ValueError: no such row$"):
        client.run(params)
    task = client.run(params, wait=False)
    with pytest.raises(RuntimeError, match="no such row"):
        client.tasks.wait_for_completion(task["id"])
    assert client.tasks.get(task["id"]).data["error"] == "ValueError: no such row"


def test_a_death_says_session(client: Inference) -> None:
    with pytest.raises(RuntimeError, match="session"):
        client.run({"app": "zoo", "function": "die", "input": {}, "session": "new"})


def test_a_cancelled_task(client: Inference, tmp_path: Path) -> None:
    input = {"path": str(tmp_path / "gate")}
    task = client.run({"app": "zoo", "function": "wait_for", "input": input, "session": "new"}, wait=False)
    client.tasks.cancel(task["id"])
    with within(5.0), pytest.raises(RuntimeError, match="task cancelled"):
        client.tasks.wait_for_completion(task["id"])
    client.tasks.delete(task["id"])


def test_what_is_refused(client: Inference) -> None:
    error = refused(lambda: client.run({"app": "nix", "input": {}}))
    assert (error.status_code, error.code) == (404, "APP_NOT_FOUND") and "nix" in error.message
    error = refused(lambda: client.run({"app": "zoo", "input": {}, "sesion": "new"}))
    assert (error.status_code, error.code) == (400, "INVALID") and "session" in str(error)
    error = refused(lambda: client.tasks.get("task_1"))
    assert (error.status_code, error.code) == (404, "NOT_FOUND")


def test_a_session_that_is_gone(gateway: GatewayProcess, client: Inference) -> None:
    ended = gateway.run("run", session="new")["session_id"]
    client.sessions.end(ended)
    client.sessions.end(ended)
    expired = gateway.run("run", session="new", session_timeout=1)["session_id"]
    until(lambda: client.sessions.get(expired)["status"] == "expired")
    died = gateway.run("die", session="new")["session_id"]
    never = f"sess_{'0' * 32}"
    for id, status, code in (
        (never, 404, "SESSION_NOT_FOUND"), (expired, 410, "SESSION_EXPIRED"),
        (ended, 410, "SESSION_ENDED"), (died, 410, "SESSION_DIED"),
    ):  # fmt: skip
        for error in (
            refused(lambda id=id: client.run({"app": "zoo", "input": {}, "session": id})),
            refused(lambda id=id: client.sessions.keepalive(id)),
        ):
            assert (error.status_code, error.code) == (status, code)
            assert f"HTTP {status}: session not found" in str(error)


def test_a_wrong_key(daemon: LocalClient, tmp_path: Path) -> None:
    with GatewayProcess(daemon.address, tmp_path, open=False) as gateway:
        client = inferencesh.inference(api_key="wk_wrong", base_url=gateway.url)
        error = refused(lambda: client.run({"app": "zoo", "input": {}}))
        assert (error.status_code, error.code) == (401, "UNAUTHORIZED")
        assert "session" not in error.message


# Sessions


def test_the_handle_of_a_session(client: Inference) -> None:
    with client.session("zoo", input={"first": True}) as session:
        assert session.call(input={"x": 1})["output"]["n"] == 2
        assert session.call("echo", {"x": 1})["output"] == {"x": 1}
        assert session.info()["call_count"] == 3
        assert session.keepalive()["status"] == "active"
        assert session.session_id in {told["id"] for told in client.sessions.list()}
        updates = list(session.call("count_up", {"n": 3}, stream=True))
        assert updates[-1]["output"] == {"i": 2}
    assert client.sessions.get(session.session_id)["status"] == "ended"
    with pytest.raises(RuntimeError, match="has been ended"):
        session.call()


def test_a_handle_whose_session_went_meanwhile_is_left_without_an_error(client: Inference) -> None:
    with client.session("zoo") as session:
        client.sessions.end(session.session_id)


class SessionManager:
    """The recovery pattern of inference.sh's documentation, in Python."""

    def __init__(self, client: Inference, app: str, timeout: int = 300) -> None:
        self.client, self.app, self.timeout = client, app, timeout
        self.session_id: str | None = None

    def ensure_session(self) -> str:
        if self.session_id is None:
            params = {"app": self.app, "input": {"action": "init"}, "session": "new"}
            self.session_id = self.client.run({**params, "session_timeout": self.timeout})["session_id"]
        return self.session_id

    def run(self, input: Any, **more: Any) -> Any:
        params = {"app": self.app, "input": input, **more}
        try:
            return self.client.run({**params, "session": self.ensure_session()})
        except Exception as error:
            if "session" in str(error).lower():
                self.session_id = None
                return self.client.run({**params, "session": self.ensure_session()})
            raise


def test_the_recovery_pattern(client: Inference) -> None:
    manager = SessionManager(client, "zoo", 1)
    assert manager.run({"x": 1})["output"]["n"] == 2
    first = manager.session_id
    assert first is not None
    until(lambda: client.sessions.get(first)["status"] == "expired")
    manager.timeout = 20
    assert manager.run({"x": 2})["output"]["n"] == 2
    second = manager.session_id
    assert second not in (None, first)
    with pytest.raises(RuntimeError, match="no such row"):
        manager.run({"text": "no such row"}, function="raise_error")
    assert manager.session_id == second  # the app's own errors cost no session
    client.sessions.end(str(second))
    assert manager.run({"x": 3})["output"]["n"] == 2


def test_many_at_once_in_one_session_run_one_after_another(
    client: Inference, gateway: GatewayProcess
) -> None:
    id = gateway.run("run", session="new")["session_id"]
    counts: list[int] = []

    def one() -> None:
        counts.append(client.run({"app": "zoo", "input": {}, "session": id})["output"]["n"])

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(counts) == list(range(2, 10))


# The same with asyncio


async def test_async_runs(aclient: AsyncInference, tmp_path: Path) -> None:
    opened = await aclient.run({"app": "zoo", "input": {"a": 1}, "session": "new", "session_timeout": 25})
    assert opened["output"]["n"] == 1
    params: Params = {
        "app": "zoo",
        "function": "count_up",
        "input": {"n": 50},
        "session": opened["session_id"],
    }
    updates = [update async for update in await aclient.run(params, stream=True)]
    assert updates[-1]["output"] == {"i": 49} and updates[-1]["status"] == TaskStatus.COMPLETED
    input = {"path": str(tmp_path / "gate")}
    task = await aclient.run({**params, "function": "wait_for", "input": input}, wait=False)
    (tmp_path / "gate").touch()
    assert (await aclient.tasks.wait_for_completion(task["id"]))["output"] == "done"
    assert (await aclient.tasks.get(task["id"])).data["status"] == TaskStatus.COMPLETED
    assert [update["output"] async for update in aclient.tasks.stream(task["id"])] == ["done"]


async def test_async_failures(aclient: AsyncInference, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^ValueError: no such row$"):
        await aclient.run({"app": "zoo", "function": "raise_error", "input": {"text": "no such row"}})
    with pytest.raises(APIError) as caught:
        await aclient.run({"app": "zoo", "input": {}, "session": "sess_1"})
    assert (caught.value.status_code, caught.value.code) == (404, "SESSION_NOT_FOUND")
    input = {"path": str(tmp_path / "gate")}
    task = await aclient.run(
        {"app": "zoo", "function": "wait_for", "input": input, "session": "new"}, wait=False
    )
    await aclient.tasks.cancel(task["id"])
    with pytest.raises(RuntimeError, match="task cancelled"):
        await aclient.tasks.wait_for_completion(task["id"])


async def test_the_async_handle_of_a_session(aclient: AsyncInference) -> None:
    async with await aclient.session("zoo") as session:
        assert (await session.call(input={"x": 1}))["output"]["n"] == 2
        assert (await session.info())["call_count"] == 2
        assert (await session.keepalive())["status"] == "active"
        assert session.session_id in {told["id"] for told in await aclient.sessions.list()}
    assert (await aclient.sessions.get(session.session_id))["status"] == "ended"


async def test_an_async_stream_that_is_cut_raises_and_another_goes_on(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    """This client takes only refused and reset connections for a reason to come again."""
    with Relay(gateway.url) as relay:
        client = inferencesh.async_inference(api_key="k", base_url=relay.url)
        params: Params = {"app": "zoo", "function": "step_by_step", "session": "new"}
        params["input"] = {"n": 2, "folder": str(tmp_path)[1:]}
        task = await client.run(params, wait=False)
        with pytest.raises(aiohttp.ClientPayloadError):
            await cut_at_the_first_part(client.tasks.stream(task["id"]), relay)
        for i in range(2):
            (tmp_path / str(i)).touch()
        assert (await client.tasks.wait_for_completion(task["id"]))["output"] == {"i": 1}


async def cut_at_the_first_part(updates: Any, relay: Relay) -> None:
    async for update in updates:
        if update["output"]:
            relay.cut()
