"""Calls by their id, in both clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import warmd
from tests.sdk.conftest import zoo

COUNT: dict[str, Any] = {"app": zoo("Good"), "function": "count_up", "input": {"n": 5}}
POURS = zoo("Pours").replace("zoo.py", "zoo_detached.py")
UNKNOWN = "ab" * 16


def sleep(seconds: float) -> dict[str, Any]:
    return {"app": POURS, "function": "sleep", "input": {"name": "slept", "seconds": seconds}}


def test_a_detached_call_is_read_by_its_id(client: warmd.Client) -> None:
    call = client.submit(**COUNT, detach=True)
    assert call.result().output == client.calls.result(call.call_id).output == 4
    with client.calls.attach(call.call_id, 2) as stream:
        assert (stream.call_id, list(stream)) == (call.call_id, [2, 3, 4])
    result = client.calls.result(call.call_id, timeout="5s")
    assert (result.call_id, result.session_id) == (call.call_id, None)
    assert call.call_id in [info.id for info in client.calls.list()]
    assert client.calls.get(call.call_id).state == call.status().state == "done"
    assert client.calls.cancel(call.call_id) is False and call.cancel() is False


def test_a_note_is_kept_with_it_for_whoever_asks(client: warmd.Client) -> None:
    call = client.submit(**COUNT, detach=True, note="for the report")
    call.result()
    assert client.calls.get(call.call_id).note == "for the report"
    assert "for the report" in [info.note for info in client.calls.list()]
    for options, says in (({"note": "x"}, "detach=True"), ({"note": "x" * 4097, "detach": True}, "4096")):
        with pytest.raises(warmd.Invalid, match=says):
            client.submit(**COUNT, **options)


def test_of_a_session_too(client: warmd.Client) -> None:
    with client.session(zoo("Good")) as session:
        call = session.submit("add", {"a": 1, "b": 2}, detach=True)
        assert call.session_id == session.id
        stream = client.calls.attach(call.call_id)
        assert list(stream) == [3] and stream.session_id == session.id
        info = client.calls.get(call.call_id)
        assert (info.session, info.function, info.detached, info.parts) == (session.id, "add", True, 0)


def test_patience_ends_and_the_call_goes_on(client: warmd.Client) -> None:
    call = client.submit(**sleep(0.5), detach=True)
    with pytest.raises(TimeoutError, match="it goes on"):
        client.calls.result(call.call_id, timeout=0.05)
    assert client.calls.result(call.call_id, timeout=20).output == "slept"
    later = client.calls.result(call.call_id).timing
    assert later.total >= later.run >= 0.5


def test_a_call_that_is_not_detached_can_be_looked_at_and_cancelled_by_its_id(client: warmd.Client) -> None:
    call = client.submit(**sleep(1000))
    assert client.calls.get(call.call_id).detached is False
    assert client.calls.cancel(call.call_id) is True
    with pytest.raises(warmd.CallCancelled):
        call.result()
    with pytest.raises(warmd.CallGone) as caught:
        client.calls.get(call.call_id)
    assert (caught.value.outcome, caught.value.ran) == ("gone", "maybe")
    assert call.status().code == "CANCELLED"


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda calls: calls.get("sess_1"), "32 hex digits"),
        (lambda calls: calls.attach(None), "32 hex digits"),
        (lambda calls: calls.attach(UNKNOWN, -1), "offset"),
        (lambda calls: calls.attach(UNKNOWN, 1.5), "offset"),
        (lambda calls: calls.result(UNKNOWN, timeout=0), "timeout"),
    ],
)
def test_what_can_be_refused_here_is(client: warmd.Client, ask: Any, says: str) -> None:
    with pytest.raises(warmd.Invalid, match=says):
        ask(client.calls)


@pytest.mark.parametrize("how", ["run", "stream"])
def test_only_what_is_submitted_can_be_detached(client: warmd.Client, how: str) -> None:
    with pytest.raises(warmd.Invalid, match=r"detach: only submit\(\)"):
        getattr(client, how)(**COUNT, detach=True)
    with pytest.raises(warmd.Invalid, match="detach: expected True or False"):
        client.submit(**COUNT, detach="yes")


def test_the_asyncio_client_has_the_same_face(address: str) -> None:
    async def main() -> None:
        async with warmd.AsyncClient(address) as client, client.session(POURS) as session:
            call = await client.submit(**COUNT, detach=True)
            assert [part async for part in client.calls.attach(call.call_id, 3)] == [3, 4]
            assert (await client.calls.result(call.call_id)).output == 4
            assert call.call_id in [info.id for info in await client.calls.list()]
            assert (await client.calls.get(call.call_id)).state == "done"
            slow = await session.submit("sleep", {"name": "x", "seconds": 1000}, detach=True)
            with pytest.raises(TimeoutError, match="it goes on"):
                await client.calls.result(slow.call_id, timeout=0.05)
            assert (await slow.status()).state == "running"
            assert await client.calls.cancel(slow.call_id) is True
            with pytest.raises(warmd.CallCancelled):
                await slow.result()
            assert (await slow.status()).code == "CANCELLED"
            with pytest.raises(warmd.CallGone):
                await client.calls.get(UNKNOWN)
            with pytest.raises(warmd.FunctionNotFound):
                await client.submit(**{**COUNT, "function": "_private"}, detach=True)

    asyncio.run(main())
