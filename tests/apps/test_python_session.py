"""The python app in a session of a real daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd

pytest.importorskip("IPython")


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local() as client:
        # What the client opens for large values it keeps: the leak check of each test must not count it.
        client.run(app="counter", input=bytes(2**20))
        yield client


@pytest.fixture
def session(client):
    with client.session("python") as session:
        yield session


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to that within 20 s"
        time.sleep(0.01)


def test_sessions_are_forked_and_know_nothing_of_each_other(client, session):
    session.run({"code": "x = 1"})
    with client.session("python") as second:
        assert second.run({"code": "x"}).output["error"]["type"] == "NameError"
        assert {client.sessions.get(one.id)["origin"] for one in (session, second)} == {"fork"}
    assert session.run({"code": "x"}).output["result"] == "1"


@pytest.mark.parametrize(
    "hang",
    [
        "while True: pass",
        "import time\ntime.sleep(600)",
        "import asyncio\nawait asyncio.sleep(600)",
        "async def spin():\n    while True: pass\nawait spin()",
        "!sleep 600",
        "try:\n    while True: pass\nexcept Exception:\n    pass",
    ],
)
def test_an_interrupted_cell_keeps_the_state(session, hang):
    session.run({"code": "x = 41"})
    call = session.submit("run", {"code": f"x += 1\nprint('begun', flush=True)\n{hang}"})
    until(lambda: (call.status()["progress"] or {}).get("stdout") == "begun\n")
    call.cancel()
    with pytest.raises(warmd.CallCancelled):
        call.result(timeout=20)
    found = session.run({"code": "print('on')\nx"}).output
    assert (found["result"], found["stdout"], found["error"]) == ("42", "on\n", None)


def test_a_cell_past_its_deadline_is_interrupted_where_it_is(session):
    with pytest.raises(warmd.CallTimeout, match="<cell 1>:2"):
        session.run({"code": "x = 1\nwhile True: pass"}, timeout=0.5)
    assert session.run({"code": "x"}).output["result"] == "1"


def test_values_travel_as_they_are(session):
    np = pytest.importorskip("numpy")
    pyarrow = pytest.importorskip("pyarrow")
    values = {"a": np.arange(200_000), "t": pyarrow.table({"n": [1, 2, 3]})}
    assert session.call("set", {"values": values}).output == ["a", "t"]
    code = "a[0] = 7\nu = t.append_column('m', [[4, 5, 6]])\nint(a.sum())"
    assert session.run({"code": code}).output["result"] == str(int(np.arange(200_000).sum()) + 7)
    assert session.call("get", {"name": "a"}).output[0] == 7
    assert session.call("get", "u").output.column_names == ["n", "m"]
    with pytest.raises(warmd.AppError, match="plain values"):
        session.call("get", {"name": "get_ipython"})


def test_plots_and_the_folder_of_their_fonts(client, tmp_path):
    pytest.importorskip("matplotlib")
    with client.session("python", env={"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}) as session:
        code = "import os\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nos.environ['MPLCONFIGDIR']"
        found = session.run({"code": code}).output
        assert (found["error"], found["stderr"]) == (None, "")
        assert found["plots"][0].startswith(b"\x89PNG")
        folder = Path(found["result"].strip("'"))
        assert list(folder.glob("fontlist-*.json"))
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_children_by_fork(session):
    fork = "import os\nif os.fork() == 0: print('child')\nelse: os.wait(); print('parent')"
    assert session.run({"code": fork}).output["stdout"] == "child\nparent\n"
    pool = "from multiprocessing import get_context\ndef square(n): return n * n\n"
    pool += "with get_context('fork').Pool(2) as workers:\n    print(workers.map(square, range(4)))"
    found = session.run({"code": pool}, timeout=30).output
    assert (found["stdout"], found["error"]) == ("[0, 1, 4, 9]\n", None)


def test_a_crash_tells_where_the_cell_was(session):
    with pytest.raises(warmd.WorkerDied) as died:
        session.run({"code": "print('so far')\nimport ctypes\nctypes.string_at(0)"})
    assert "Segmentation fault" in str(died.value)
    assert '"<cell 1>", line 3' in str(died.value)


def test_the_session_takes_code_to_begin_with(client):
    with client.session("python", setup={"code": "import math\ntau = math.tau"}) as session:
        assert session.run({"code": "tau"}).output["result"].startswith("6.28")
    with pytest.raises(warmd.StartFailed, match="ZeroDivisionError"):
        client.run(app="python", session="new", setup={"code": "1 / 0"}, input={"code": "1"})
