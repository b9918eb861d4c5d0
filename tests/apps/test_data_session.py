"""The data app in a session of a real daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import warmd

pl = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")

ENDLESS = "SELECT sum(a.x * b.x) AS s FROM t AS a CROSS JOIN t AS b"
ROWS = 400_000


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[warmd.Client]:
    # polars keeps what it opens for its first file: neither must that be counted.
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path_factory.mktemp("first") / "first.parquet")
    with warmd.local() as client:
        # What the client opens for large values it keeps: the leak check of each test must not count it.
        client.run(app="counter", input=bytes(2**20))
        yield client


@pytest.fixture
def session(client):
    with client.session("data-processor") as session:
        yield session


def test_the_flow_of_the_reference(client, tmp_path):
    dataset = tmp_path / "large_dataset.parquet"
    pl.DataFrame({"a": range(1000), "b": [2.5 * n for n in range(1000)]}).write_parquet(dataset)
    result = client.run(
        app="data-processor",
        input={"action": "load", "dataset": str(dataset)},
        session="new",
        session_timeout=900,
    )
    for analysis in ["summary", "correlations", "outliers", "trends"]:
        found = client.run(
            app="data-processor", input={"action": "analyze", "type": analysis}, session=result.session_id
        )
        assert found.output["table"] == "large_dataset"
        assert not found.timing.cold
    assert found.output["columns"]["b"]["slope"] == pytest.approx(2.5)
    client.sessions.end(result.session_id)


def test_sessions_are_forked_and_compute_in_the_fork(client, session):
    with client.session("data-processor") as second:
        for one in (session, second):
            one.run({"action": "load", "dataset": {"g": [1, 1, 2], "x": [1.0, 2.0, 3.0]}})
            query = "SELECT g, sum(x) AS s FROM data GROUP BY g ORDER BY g"
            found = one.run({"action": "sql", "query": query})
            assert found.output["rows"] == [{"g": 1, "s": 3.0}, {"g": 2, "s": 3.0}]
            assert client.sessions.get(one.id)["origin"] == "fork"


def test_tables_go_in_and_come_back_as_arrow(session):
    table = pyarrow.table({"x": pyarrow.array(range(200_000)), "s": ["text"] * 200_000})
    assert session.run({"action": "load", "dataset": table, "name": "t"}).output["rows"] == 200_000
    back = session.call("sql", {"query": "SELECT x * 2 AS y, s FROM t", "as": "arrow"}).output
    assert isinstance(back, pyarrow.Table) and back.num_rows == 200_000
    assert back["y"].slice(199_999).to_pylist() == [399_998]


def test_a_query_without_end_is_cancelled_and_the_table_stays(session):
    session.run({"action": "load", "dataset": {"x": list(range(ROWS))}, "name": "t"})
    call = session.submit("sql", {"query": ENDLESS})
    until(lambda: call.status()["state"] == "running" and call.status()["seconds"] > 0.2)
    begun = time.monotonic()
    call.cancel()
    with pytest.raises(warmd.CallCancelled):
        call.result(timeout=20)
    with pytest.raises(warmd.CallTimeout):
        session.call("sql", {"query": ENDLESS}, timeout=0.5)
    assert time.monotonic() - begun < 8
    for _ in range(20):  # no signal of the cancelling may be left over for a later call
        assert session.run({"action": "sql", "query": "SELECT max(x) AS m FROM t"}).output["rows"] == [
            {"m": ROWS - 1}
        ]


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to that within 20 s"
        time.sleep(0.01)
