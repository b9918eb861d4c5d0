"""The data app as a plain object, on the real polars: what it computes, and what it refuses."""

from __future__ import annotations

import datetime
import json
import math
import statistics

import pytest

pytest.importorskip("polars")

import polars as pl

from warmd.apps.data import Data

START = datetime.datetime(2025, 1, 1)


@pytest.fixture(scope="module", autouse=True)
def engine(tmp_path_factory):
    """polars keeps what it has once started: the leak check of each test must not count it."""
    path = tmp_path_factory.mktemp("engine") / "t.csv"
    path.write_text("a\n1\n")
    pl.scan_csv(path).group_by("a").len().collect()


@pytest.fixture
def data():
    data = Data()
    data.setup()
    return data


def load(data, columns, name="t"):
    return data.run({"action": "load", "dataset": columns, "name": name})


def analyze(data, type, **options):
    found = data.run({"action": "analyze", "type": type, **options})
    assert found.pop("seconds") >= 0
    json.dumps(found, allow_nan=False)
    return found


def test_a_summary_tells_each_column_by_its_kind(data):
    load(
        data,
        {
            "number": [1.0, 2.0, 3.0, None, math.nan, math.inf],
            "text": ["b", "a", "b", None, "c", "b"],
            "time": [START + datetime.timedelta(hours=hour) for hour in range(6)],
            "flag": [True, False, True, True, None, None],
            "list": [[1], [2], None, [3], [4], [5]],
        },
    )
    found = analyze(data, "summary")
    assert found["rows"] == 6
    columns = found["columns"]
    assert columns["number"] == {
        "type": "Float64", "count": 3, "nulls": 1, "non_finite": 2,
        "mean": 2.0, "std": 1.0, "min": 1.0, "max": 3.0, "q25": 1.5, "median": 2.0, "q75": 2.5,
    }  # fmt: skip
    assert columns["text"] == {
        "type": "String",
        "count": 5,
        "nulls": 1,
        "distinct": 3,
        "most_frequent": [{"value": "b", "count": 3}, {"value": "a", "count": 1}, {"value": "c", "count": 1}],
    }
    assert columns["time"]["min"] == "2025-01-01T00:00:00"
    assert columns["time"]["range_seconds"] == 5 * 3600
    assert columns["flag"]["most_frequent"][0] == {"value": True, "count": 3}
    assert columns["list"] == {"type": "List(Int64)", "count": 5, "nulls": 1}


def test_a_summary_of_nothing_is_no_error(data):
    load(data, pl.DataFrame(schema={"a": pl.Float64, "b": pl.String, "c": pl.Date}).to_dict())
    columns = analyze(data, "summary")["columns"]
    assert columns["a"]["count"] == 0 and columns["a"]["mean"] is None and columns["a"]["median"] is None
    assert columns["b"]["distinct"] == 0 and columns["b"]["most_frequent"] == []
    assert columns["c"]["min"] is None


def test_correlations_take_the_rows_that_have_both(data):
    a = [1.0, 2.0, None, 4.0, 5.0, 7.0]
    b = [2.0, None, 3.0, 9.0, 8.0, math.nan]
    load(data, {"a": a, "b": b, "constant": [3] * 6, "text": ["x"] * 6})
    found = analyze(data, "correlations")
    assert found["columns"] == ["a", "b", "constant"]
    expected = statistics.correlation([1, 4, 5], [2, 9, 8])
    assert found["matrix"][0][1] == pytest.approx(expected)
    assert found["matrix"][1][0] == found["matrix"][0][1]
    assert [found["matrix"][i][i] for i in range(3)] == [1.0, 1.0, None]
    assert found["matrix"][2] == [None, None, None]
    assert found["strongest"] == [{"columns": ["a", "b"], "correlation": pytest.approx(expected)}]


def test_correlations_of_ranks(data):
    load(data, {"a": [1, 2, 3, 4], "b": [1, 10, 100, 1000]})
    assert analyze(data, "correlations", method="spearman")["matrix"][0][1] == pytest.approx(1)
    assert analyze(data, "correlations")["matrix"][0][1] < 0.9


def test_outliers_by_quartiles_and_by_deviation(data):
    values = [*range(100), 1000, -500]
    load(data, {"v": values, "same": [1] * 102, "no": [None] * 102, "text": ["x"] * 102})
    data._tables.keep("t", data._tables.get("t").frame.with_columns(no=pl.lit(None, pl.Float64)))
    found = analyze(data, "outliers")["columns"]
    assert list(found) == ["v", "same", "no"]
    q25, _, q75 = statistics.quantiles(values, n=4, method="inclusive")
    assert found["v"]["lower"] == pytest.approx(q25 - 1.5 * (q75 - q25))
    assert found["v"]["upper"] == pytest.approx(q75 + 1.5 * (q75 - q25))
    assert found["v"]["count"] == 2 and found["v"]["share"] == pytest.approx(2 / 102)
    assert found["v"]["examples"] == [{"row": 100, "value": 1000}, {"row": 101, "value": -500}]
    assert found["same"]["count"] == 0
    assert found["no"] == {"lower": None, "upper": None, "count": 0, "share": 0.0, "examples": []}
    asked = {"method": "zscore", "threshold": 5, "columns": ["v"], "examples": 1}
    by_deviation = analyze(data, "outliers", **asked)["columns"]
    assert by_deviation["v"]["upper"] == pytest.approx(
        statistics.fmean(values) + 5 * statistics.stdev(values)
    )
    assert by_deviation["v"]["examples"] == [{"row": 100, "value": 1000}]


def test_infinities_are_no_outliers(data):
    load(data, {"v": [1.0, 2.0, 3.0, math.inf, -math.inf, math.nan]})
    assert analyze(data, "outliers")["columns"]["v"]["count"] == 0


def test_trends_along_the_rows(data):
    load(data, {"up": [1.0, 3.0, None, 7.0], "flat": [2, 2, 2, 2], "one": [None, None, 5, None]})
    columns = analyze(data, "trends")["columns"]
    assert columns["up"] == {
        "count": 3, "slope": pytest.approx(2), "intercept": pytest.approx(1),
        "r_squared": pytest.approx(1), "change": pytest.approx(6),
    }  # fmt: skip
    assert columns["flat"]["slope"] == 0 and columns["flat"]["r_squared"] is None
    assert columns["one"] == {
        "count": 1, "slope": None, "intercept": None, "r_squared": None, "change": None,
    }  # fmt: skip


def test_trends_along_a_column_of_times_in_any_order(data):
    hours = [5, 1, 0, 3, 2, 4]
    times = [START + datetime.timedelta(hours=hour) for hour in hours]
    load(data, {"time": times, "v": [10 + 2 * hour for hour in hours]})
    found = analyze(data, "trends", time="time", per="hour", every="2h")
    assert (found["along"], found["per"]) == ("time", "hour")
    assert found["columns"]["v"]["slope"] == pytest.approx(2)
    assert found["columns"]["v"]["intercept"] == pytest.approx(10)
    assert [row["v"] for row in found["means"]["rows"]] == [11, 15, 19]
    assert found["means"]["rows"][1]["time"] == "2025-01-01T02:00:00"
    by_day = analyze(data, "trends", time="time")["columns"]["v"]
    assert by_day["slope"] == pytest.approx(48)


def test_means_of_so_many_rows_and_no_more_than_asked_for(data):
    load(data, {"v": list(range(10))})
    means = analyze(data, "trends", every=4, limit=2)["means"]
    assert means["rows"] == [{"row": 0, "v": 1.5}, {"row": 4, "v": 5.5}]
    assert means["truncated"]
    assert not analyze(data, "trends", every=4, limit=3)["means"]["truncated"]


def test_integers_do_not_overflow(data):
    large = [2**62, 2**62 + 2, 2**62 + 4]
    load(data, {"v": large, "u": pl.Series([2**63, 2**63 + 4096, 2**63 + 8192], dtype=pl.UInt64)})
    assert analyze(data, "summary")["columns"]["v"]["mean"] == pytest.approx(2**62 + 2)
    assert analyze(data, "trends")["columns"]["u"]["slope"] == pytest.approx(4096)


def test_columns_may_have_any_name(data):
    odd = {"*": [1, 2, 4], "^a.*$": [2, 4, 8], "": [1.0, 2.0, 3.0], "value": ["x", "x", "y"], "x": [3, 2, 1]}
    load(data, odd)
    assert analyze(data, "summary")["columns"]["value"]["distinct"] == 2
    assert analyze(data, "correlations")["matrix"][0][1] == pytest.approx(1)
    assert analyze(data, "outliers", threshold=0.1)["columns"]["*"]["count"] == 2
    found = analyze(data, "trends", columns=["x", "^a.*$"], every=2)
    assert found["columns"]["x"]["slope"] == pytest.approx(-1)
    assert found["means"]["rows"][0] == {"row": 0, "x": 2.5, "^a.*$": 3.0}
    taken = {"action": "load", "dataset": odd, "columns": ["*"]}
    assert data.run(taken)["columns"] == {"*": "Int64"}
    load(data, {"row": [1, 2]})
    with pytest.raises(ValueError, match="a column is called 'row'"):
        analyze(data, "trends", every=2)


def test_sql_joins_the_tables_of_the_session(data):
    load(data, {"id": [1, 2, 3], "v": [1.5, math.nan, 3.5]}, "values")
    load(data, {"id": [1, 3], "name": ["one", "three"]}, "names")
    query = "SELECT name, v FROM values JOIN names ON values.id = names.id ORDER BY v DESC"
    assert data.run({"action": "sql", "query": query}) == {
        "columns": {"name": "String", "v": "Float64"},
        "rows": [{"name": "three", "v": 3.5}, {"name": "one", "v": 1.5}],
        "truncated": False,
    }
    assert data.run({"action": "sql", "query": query, "into": "joined"})["rows"] == 2
    assert data.run({"action": "columns"}) == {"name": "String", "v": "Float64"}
    left = data.run({"action": "drop", "table": "names"})
    assert [table["table"] for table in left] == ["values", "joined"]


def test_tabular_results_as_arrow_and_with_a_bound(data):
    pyarrow = pytest.importorskip("pyarrow")
    load(data, {"a": list(range(3000))})
    found = data.run({"action": "sql", "query": "SELECT a FROM t"})
    assert len(found["rows"]) == 1000 and found["truncated"]
    table = data.run({"action": "sql", "query": "SELECT a FROM t", "as": "arrow"})
    assert isinstance(table, pyarrow.Table) and table.num_rows == 3000
    assert data.run({"action": "head", "as": "arrow", "limit": 5})["a"].to_pylist() == list(range(5))
    assert data.run({"action": "head", "limit": 2})["rows"] == [{"a": 0}, {"a": 1}]
    drawn = data.run({"action": "sample", "limit": 3, "seed": 1})["rows"]
    assert drawn == data.run({"action": "sample", "limit": 3, "seed": 1})["rows"] and len(drawn) == 3


def test_what_json_does_not_have_becomes_what_it_has(data):
    values = {
        "bytes": [b"\x00"],
        "span": [datetime.timedelta(seconds=90)],
        "day": [datetime.date(2025, 1, 2)],
        "nan": [math.nan],
        "inner": [{"x": [math.inf, 1.0]}],
    }
    load(data, values)
    (row,) = data.run({"action": "head"})["rows"]
    assert row == {
        "bytes": "AA==", "span": 90.0, "day": "2025-01-02", "nan": None, "inner": {"x": [None, 1.0]},
    }  # fmt: skip


def test_the_table_loaded_last_is_meant(data):
    load(data, {"a": [1]}, "first")
    load(data, {"b": [1]}, "second")
    assert analyze(data, "summary")["table"] == "second"
    assert analyze(data, "summary", table="first")["table"] == "first"
    load(data, {"a": [1, 2]}, "first")
    assert analyze(data, "summary")["rows"] == 2


def test_init_names_the_actions(data):
    actions = ["analyze", "columns", "drop", "head", "init", "load", "sample", "sql", "tables"]
    assert data.run({"action": "init"}) == {"actions": actions}


@pytest.mark.parametrize(
    ("type", "options", "kind", "text"),
    [
        ("sumary", {}, ValueError, "unknown analysis 'sumary': did you mean 'summary'"),
        ("summary", {"table": "tt"}, ValueError, "unknown table 'tt': did you mean 't'"),
        ("summary", {"columns": ["nmber"]}, ValueError, "did you mean 'number'"),
        ("outliers", {"columns": ["text"]}, ValueError, "'text' of 't' is String: not a number"),
        ("outliers", {"method": "iqrr"}, ValueError, "did you mean 'iqr'"),
        ("outliers", {"threshold": 0}, ValueError, "threshold is 0: it must be a number above 0"),
        ("outliers", {"treshold": 2}, TypeError, "did you mean 'threshold'"),
        ("correlations", {}, ValueError, r"two numeric columns, and 't' has \['number'\]"),
        ("trends", {"time": "number"}, ValueError, "'time' needs dates or times"),
        ("trends", {"time": "time", "per": "dy"}, ValueError, "did you mean 'day'"),
        ("trends", {"columns": "number"}, TypeError, "columns is 'number': it must be a list of names"),
        ("trends", {"per": "day"}, ValueError, "needs a column of times"),
        ("trends", {"time": "time", "every": "1 parsec"}, ValueError, "every is '1 parsec': expected"),
        ("trends", {"time": "time", "every": 3}, ValueError, "every is '3': along a column of times"),
        ("trends", {"every": "1d"}, ValueError, "every is '1d', allowed are whole numbers"),
    ],
)
def test_refused_analyses(data, type, options, kind, text):
    load(data, {"number": [1, 2], "text": ["a", "b"], "time": [START, START]})
    with pytest.raises(kind, match=text):
        analyze(data, type, **options)


@pytest.mark.parametrize(
    ("action", "options", "kind", "text"),
    [
        ("sql", {"query": "SELCT 1"}, ValueError, "sql parser error"),
        ("sql", {"query": "SELECT a FROM nope"}, ValueError, r"relation 'nope' was not found \(tables: t\)"),
        ("sql", {"query": "-- so\n DROP TABLE t"}, ValueError, "DROP changes tables"),
        ("sql", {"query": "SELECT 1", "limit": 0}, ValueError, "limit is 0"),
        ("sql", {"query": "SELECT 1", "as": "arow"}, ValueError, "did you mean 'arrow'"),
        ("head", {"limt": 3}, TypeError, "did you mean 'limit'"),
        ("load", {"dataset": {"a": [1]}, "column": ["a"]}, TypeError, "did you mean 'columns'"),
        ("load", {"dataset": {"a": [1]}, "columns": ["b"]}, ValueError, "unknown column 'b'"),
        ("load", {"dataset": {"a": [1], "b": [1, 2]}}, ValueError, "no table can be made"),
        ("load", {"dataset": 3}, ValueError, "the dataset is a int"),
        ("drop", {"table": "tt"}, ValueError, "did you mean 't'"),
    ],
)
def test_refused_actions(data, action, options, kind, text):
    load(data, {"a": [1, 2]})
    with pytest.raises(kind, match=text):
        data.run({"action": action, **options})
    assert [(table["table"], table["rows"]) for table in data.run({"action": "tables"})] == [("t", 2)]


def test_without_a_table_the_remedy_is_named(data):
    with pytest.raises(ValueError, match=r'no table is loaded: {"action": "load"'):
        data.run({"action": "analyze", "type": "summary"})
