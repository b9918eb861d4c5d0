"""Hearing of what changes in a daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import warmd


@pytest.fixture(scope="module")
def client():
    with warmd.local() as client:
        client.status()
        yield client


def gathered(news: Iterator[dict[str, Any]], wanted: Callable[[dict[str, Any]], object]) -> list[Any]:
    """What was told until a value has what is wanted."""
    told = []
    for value in news:
        told.append(value)
        if wanted(value):
            return told
    raise AssertionError("it ended before")


def test_a_session_from_its_start_to_its_end(client):
    with client.watch() as news:
        assert next(news)["sessions"] == []
        with client.session("counter") as session:
            list(session.stream("count_up", {"n": 3}))
        told = gathered(news, lambda value: any(info["state"] == "ended" for info in value["sessions"]))
    states = [info["state"] for value in told for info in value["sessions"]]
    assert states[-1] == "ended"
    assert {info["id"] for value in told for info in value["sessions"]} == {session.id}
    opened, streamed = [call for value in told for call in value["calls"]]
    assert (opened["function"], opened["app"], opened["timing"]["cold"]) == ("", "counter", True)
    assert (streamed["function"], streamed["session"], streamed["code"]) == ("count_up", session.id, None)
    assert 0 <= streamed["first_seconds"] <= streamed["timing"]["run"]
    assert sum(value["ended"] for value in told) == 2


def test_a_call_in_the_pool_that_fails(client):
    with client.watch() as news:
        next(news)
        with pytest.raises(warmd.AppError):
            client.run(app="counter", function="boom")
        call = gathered(news, lambda value: value["calls"])[-1]["calls"][0]
    assert (call["app"], call["session"], call["code"]) == ("counter", None, "APP_ERROR")
    assert "boom" in call["message"]


def test_a_detached_call_is_told_of_when_it_ends_whoever_has_left(client):
    with client.session("python") as session:
        code = {"code": "import time; time.sleep(1)"}
        with client.watch() as news:
            next(news)
            with warmd.Client(client.address) as other:
                submitted = other.submit(session=session.id, input=code, detach=True)
            told = gathered(news, lambda value: value["calls"])
            assert client.calls.result(submitted.call_id, timeout=20)
            calls = [call for value in told for call in value["calls"]]
    assert [(call["id"], call["code"], call["ran"]) for call in calls] == [(submitted.call_id, None, "yes")]
    assert calls[0]["timing"]["run"] >= 1


async def test_awaited(client):
    async with warmd.AsyncClient(client.address) as other, other.watch() as news:
        await anext(news)
        with client.session("counter") as session:
            told = await anext(news)
        assert told["sessions"][0]["id"] == session.id


def test_who_leaves_leaves_nothing(client):
    with client.watch() as news:
        next(news)
    assert client.status()["clients"] == 1
    with client.watch() as news:
        assert next(news)["draining"] is False
