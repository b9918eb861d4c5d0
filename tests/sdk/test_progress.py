"""How far a call is, as its caller hears it."""

from __future__ import annotations

import pytest

import warmd

APP = '''
import threading
import warmd

class App:
    def setup(self):
        self.go = threading.Event()

    def count(self, n):
        for number in range(n):
            warmd.context.progress({"n": number})
        return n

    def wait(self):
        warmd.context.progress("waiting")
        while not warmd.context.cancelled:
            self.go.wait(0.01)

    def on_cancel(self):
        return True
'''


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(APP)
    return str(folder)


@pytest.fixture(scope="module")
def client(app):
    with warmd.local() as client:
        client.run(app=app, function="count", input={"n": 0})
        yield client


def test_values_come_until_the_call_ends(client, app):
    call = client.submit(app=app, function="count", input={"n": 500})
    told = [value["n"] for value in call.progress()]
    assert told == sorted(set(told)), "in order, each at most once"
    assert call.result().output == 500


def test_of_a_call_that_has_ended_there_are_none(client, app):
    call = client.submit(app=app, function="count", input={"n": 1})
    call.result()
    assert list(call.progress()) == []


def test_anybody_may_watch_a_call_by_its_id(client, app):
    call = client.submit(app=app, function="wait")
    with warmd.Client(client.address) as other:
        watching = other.calls.watch(call.call_id)
        assert next(watching) == "waiting"
        other.calls.cancel(call.call_id)
        assert list(watching) == []
    with pytest.raises(warmd.CallCancelled):
        call.result()


def test_a_reader_may_leave(client, app):
    call = client.submit(app=app, function="wait")
    for value in call.progress():
        assert value == "waiting"
        break
    assert not call.done()
    call.cancel()
    with pytest.raises(warmd.CallCancelled):
        call.result()


def test_a_call_that_nobody_knows(client):
    with pytest.raises(warmd.CallGone, match="unknown to this daemon"):
        next(client.calls.watch("00" * 16))
    with pytest.raises(warmd.Invalid, match="expected the id of a call"):
        client.calls.watch("mine")


async def test_awaited(client, app):
    async with warmd.AsyncClient(client.address) as other:
        call = await other.submit(app=app, function="count", input={"n": 300})
        told = [value["n"] async for value in call.progress()]
        assert told == sorted(set(told))
        assert (await call.result()).output == 300
        assert [value async for value in call.progress()] == []
        waits = await other.submit(app=app, function="wait")
        async for value in other.calls.watch(waits.call_id):
            assert value == "waiting"
            waits.cancel()
        with pytest.raises(warmd.CallCancelled):
            await waits.result()
