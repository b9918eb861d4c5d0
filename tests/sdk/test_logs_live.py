"""Following a log for as long as a call runs."""

from __future__ import annotations

import pytest

import warmd

APP = """
class App:
    def run(self, input):
        for number in range(input["n"]):
            print("line", number)
        return input["n"]
"""


@pytest.fixture(scope="module")
def client():
    with warmd.local() as client:
        client.status()
        yield client


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return str(tmp_path)


def test_all_that_a_call_has_printed_comes_before_the_end(client, app):
    with client.session(app) as session:
        logs = client.logs(session.id, follow=True, tail=0)
        session.call("run", {"n": 1000})
        logs.finish()
        assert b"".join(logs).split(b"\n") == [b"line %d" % n for n in range(1000)] + [b""]
        logs.finish()


async def test_awaited(client, app):
    with client.session(app) as session:
        async with warmd.AsyncClient(client.address) as other:
            logs = other.logs(session.id, follow=True, tail=0)
            session.call("run", {"n": 3})
            session.call("run", {"n": 0})
            logs.finish()
            assert [chunk async for chunk in logs] == []
            followed = other.logs(session.id, follow=True)
            first = await anext(followed)
            assert first.startswith(b"line 0\n")
            session.call("run", {"n": 1})
            followed.finish()
            rest = [chunk async for chunk in followed]
            assert (first + b"".join(rest)).count(b"\n") == 4
