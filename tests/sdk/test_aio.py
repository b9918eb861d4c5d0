"""The asyncio client against a fake daemon."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import warmd
from tests.sdk.fakedaemon import SESSION, FakeDaemon, fake_daemon
from warmd.protocol.messages import Call, Cancel, Hello


@pytest.fixture
async def faked(fake: FakeDaemon) -> AsyncIterator[warmd.AsyncClient]:
    async with warmd.AsyncClient(str(fake.path)) as found:
        yield found


async def heard(fake: FakeDaemon, kind: type, count: int = 1) -> list[object]:
    return await asyncio.to_thread(fake.wait_for, kind, count)


async def test_calls_of_many_tasks_share_one_connection(faked: warmd.AsyncClient, fake: FakeDaemon) -> None:
    results = await asyncio.gather(
        *(faked.run(app="x", function="echo", input=n, session=SESSION) for n in range(500))
    )
    assert [one.output for one in results] == list(range(500))
    assert fake.hellos == 1


async def test_a_stream_yields_all_parts_in_order_over_many_windows(faked: warmd.AsyncClient) -> None:
    parts = [part async for part in faked.stream(app="x", function="parts", input=1000)]
    assert parts == list(range(1000))


async def test_a_stream_of_a_function_that_is_no_generator_yields_its_result_once(
    faked: warmd.AsyncClient,
) -> None:
    assert [part async for part in faked.stream(app="x", function="echo", input="v")] == ["v"]


async def test_errors_are_raised_with_all_their_facts(faked: warmd.AsyncClient) -> None:
    with pytest.raises(warmd.AppError, match="ValueError: no") as caught:
        await faked.run(app="x", function="raise", session=SESSION)
    assert (caught.value.ran, caught.value.session) == ("yes", SESSION)


async def test_a_cancelled_task_cancels_its_call(faked: warmd.AsyncClient, fake: FakeDaemon) -> None:
    task = asyncio.create_task(faked.run(app="x", function="silent", session=SESSION))
    (call,) = await heard(fake, Call)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await heard(fake, Cancel) == [Cancel(call.id, "cancel")]
    assert (await faked.run(app="x", function="echo", input=1)).output == 1


@pytest.mark.parametrize("leave", ["aclose", "with", "forget", "cancel"])
async def test_leaving_a_stream_early_abandons_it(
    faked: warmd.AsyncClient, fake: FakeDaemon, leave: str
) -> None:
    stream = faked.stream(app="x", function="silent", session=SESSION)
    step = asyncio.ensure_future(anext(stream))
    (call,) = await heard(fake, Call)
    step.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await step
    if leave == "aclose":
        await stream.aclose()
    elif leave == "with":
        async with stream:
            pass
    del stream, step
    gc.collect()
    assert await heard(fake, Cancel) == [Cancel(call.id, "abandon")]


async def test_a_submitted_call_is_awaited_later(faked: warmd.AsyncClient) -> None:
    call = await faked.submit(app="x", function="echo", input=5, session="new")
    assert call.session_id == SESSION
    assert (await call.result(timeout=10)).output == 5
    assert call.done()
    assert (await call.status()).state == "done"


async def test_result_with_a_time_out_leaves_the_call_going(faked: warmd.AsyncClient) -> None:
    call = await faked.submit(app="x", function="silent", session="new")
    with pytest.raises(TimeoutError, match="goes on"):
        await call.result(timeout=0.01)
    assert (await call.status())["verb"] == "calls.get"
    assert call.cancel()
    with pytest.raises(warmd.CallCancelled):
        await call.result(timeout=10)


async def test_the_daemons_end_is_told_at_once_and_later_calls_find_none() -> None:
    with fake_daemon() as fake:
        async with warmd.AsyncClient(str(fake.path)) as client:
            call = await client.submit(app="x", function="silent", session=SESSION)
            await heard(fake, Call)
            await asyncio.to_thread(fake.close)
            async with asyncio.timeout(1):
                with pytest.raises(warmd.DaemonLost):
                    await call.result()
            with pytest.raises(warmd.DaemonUnavailable):
                await client.run(app="x", session=SESSION)


async def test_a_silent_daemon_costs_the_time_out_and_its_margin(
    faked: warmd.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmd.protocol.exchange.PATIENCE_SECONDS", 0.1)
    async with asyncio.timeout(5):
        with pytest.raises(warmd.CallTimeout, match="stopped, overloaded or hangs"):
            await faked.run(app="x", function="silent", session=SESSION, timeout=0.05)


async def test_all_who_wait_for_a_connection_that_fails_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("warmd.connect.HANDSHAKE_SECONDS", 0.2)
    with fake_daemon(hello=lambda: None) as fake:
        async with warmd.AsyncClient(str(fake.path)) as client:
            told = await asyncio.gather(*(client.run(app="x") for _ in range(5)), return_exceptions=True)
        assert [type(one) for one in told] == [warmd.DaemonUnavailable] * 5
        assert len(fake.of(Hello)) == 1


async def test_closing_while_a_connection_is_made_leaves_nothing(fake: FakeDaemon) -> None:
    client = warmd.AsyncClient(str(fake.path))
    # Never answered: an answer that is here before the close would rightly count.
    task = asyncio.create_task(client.run(app="x", function="silent"))
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(warmd.WarmdError):
        await asyncio.wait_for(task, 5)
    with pytest.raises(warmd.Invalid, match="closed"):
        await client.run(app="x")


def test_a_client_moves_to_the_next_event_loop_when_its_own_is_closed(fake: FakeDaemon) -> None:
    client = warmd.AsyncClient(str(fake.path))

    async def work(last: bool) -> object:
        output = (await client.run(app="x", function="echo", input=last)).output
        if last:
            await client.aclose()
        return output

    assert asyncio.run(work(False)) is False
    assert asyncio.run(work(True)) is True
    assert fake.hellos == 2


async def test_another_running_loop_is_refused(faked: warmd.AsyncClient) -> None:
    await faked.run(app="x")
    with pytest.raises(warmd.Invalid, match="another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(faked.run(app="x")))


async def test_a_session_is_opened_by_with_or_await_and_taken_by_id(faked: warmd.AsyncClient) -> None:
    async with faked.session("x", session_timeout=60) as session:
        assert session.id == SESSION
        assert (await session.call("echo", 1)).output == 1
        assert [part async for part in session.stream("parts", 3)] == [0, 1, 2]
        assert (await session.info()).session == SESSION
    opened = await faked.session("x")
    assert opened.id == SESSION
    assert (await faked.session(id=SESSION).run(2)).output == 2
    with pytest.raises(warmd.Invalid, match="not open yet"):
        _ = faked.session("x").id


async def test_no_daemon_at_an_address_is_told_at_once(tmp_path: Path) -> None:
    async with warmd.AsyncClient(str(tmp_path / "none.sock")) as client:
        with pytest.raises(warmd.DaemonUnavailable):
            await client.run(app="x")
