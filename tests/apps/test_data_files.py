"""Files of every kind, as the data app reads them."""

from __future__ import annotations

import gzip
import json
import sys

import pytest

pytest.importorskip("polars")

import polars as pl

from warmd.apps.data import Data
from warmd.apps.data.example import write_example

FRAME = pl.DataFrame({"a": [1, 2, 3], "b": [1.5, None, 3.5], "c": ["x", "y,z", None]})


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


def write_stream(frame, path):
    frame.write_ipc_stream(path)


WRITERS = {
    "t.parquet": pl.DataFrame.write_parquet,
    "t.arrow": pl.DataFrame.write_ipc,
    "t.feather": write_stream,
    "t.csv": pl.DataFrame.write_csv,
    "t.tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    "t.semicolons.csv": lambda frame, path: frame.write_csv(path, separator=";"),
    "t.csv.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_csv().encode())),
    "t.ndjson": pl.DataFrame.write_ndjson,
    "t.jsonl.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_ndjson().encode())),
    "t.json": lambda frame, path: path.write_text(json.dumps(frame.to_dicts(), indent=1)),
    "no_suffix": pl.DataFrame.write_parquet,
    "t.txt": pl.DataFrame.write_csv,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_known_by_content_or_name(data, tmp_path, name):
    path = tmp_path / name
    WRITERS[name](FRAME, path)
    loaded = data.run({"action": "load", "dataset": str(path)})
    assert loaded["table"] == name.partition(".")[0]
    assert loaded["rows"] == 3 and loaded["bytes"] > 0 and loaded["seconds"] > 0
    assert loaded["columns"] == {"a": "Int64", "b": "Float64", "c": "String"}
    assert data._tables.get().frame.equals(FRAME)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.csv", "t.json"])
def test_columns_and_limit(data, tmp_path, name):
    WRITERS[name](FRAME, tmp_path / name)
    asked = {"action": "load", "dataset": str(tmp_path / name), "columns": ["c", "a"], "limit": 2}
    assert data.run(asked)["columns"] == {"c": "String", "a": "Int64"}
    assert data._tables.get().frame.rows() == [("x", 1), ("y,z", 2)]


def test_times_in_text_are_times(data, tmp_path):
    (tmp_path / "t.csv").write_text("day,moment\n2025-01-02,2025-01-02T03:04:05\n")
    columns = data.run({"action": "load", "dataset": str(tmp_path / "t.csv")})["columns"]
    assert columns["day"] == "Date" and columns["moment"].startswith("Datetime")


def test_a_type_that_turns_out_wrong_late_is_found_by_reading_all(data, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("v\n" + "1\n" * 20_000 + "2.5\nend\n")
    loaded = data.run({"action": "load", "dataset": str(path)})
    assert (loaded["rows"], loaded["columns"]) == (20_002, {"v": "String"})


def test_options_of_csv(data, tmp_path):
    path = tmp_path / "1st table.csv"
    path.write_text("1/2\nNA/4\n")
    options = {"separator": "/", "header": False, "null_values": ["NA"]}
    loaded = data.run({"action": "load", "dataset": str(path), **options})
    assert loaded["table"] == "_1st_table"
    assert data._tables.get().frame.rows() == [(1, 2), (None, 4)]


def test_a_table_does_not_change_with_its_file(data, tmp_path):
    path = tmp_path / "t.arrow"
    pl.DataFrame({"a": range(100_000)}).write_ipc(path)
    data.run({"action": "load", "dataset": str(path)})
    path.write_bytes(b"")
    assert data.run({"action": "sql", "query": "SELECT sum(a) AS s FROM t"})["rows"] == [{"s": 4999950000}]


def test_values_given_in_the_call(data):
    pyarrow = pytest.importorskip("pyarrow")
    for dataset in (FRAME.to_dict(as_series=False), FRAME.to_dicts(), FRAME.to_arrow()):
        assert data.run({"action": "load", "dataset": dataset})["table"] == "data"
        assert data._tables.get().frame.equals(FRAME)
    batch = pyarrow.RecordBatch.from_pydict({"a": [1]})
    assert data.run({"action": "load", "dataset": batch, "name": "b"})["rows"] == 1


@pytest.mark.parametrize(
    ("name", "content", "options", "kind", "text"),
    [
        ("none.parquet", None, {}, FileNotFoundError, r"there is no file .*none.parquet \(the working dir"),
        ("t.parquet", b"a,b\n1,2\n", {}, ValueError, "named like a file of parquet, but its content is not"),
        ("t.parquet", b"PAR1 and then nothing PAR1", {}, ValueError, "cannot be read as parquet"),
        ("t.csv", b"", {}, ValueError, "is empty"),
        ("t.feather", b"FEA1xxxx", {}, ValueError, "Feather file of version 1"),
        ("t.csv", b"a\n1\n", {"format": "cvs"}, ValueError, "unknown format 'cvs': did you mean 'csv'"),
        ("t.csv", b"alpha\n1\n", {"columns": ["alhpa"]}, ValueError, "did you mean 'alpha'"),
        ("t.csv", b"a\n1\n", {"limit": 0}, ValueError, "limit is 0"),
        ("t.csv", b"a\n1\n", {"name": ""}, ValueError, "name must be text"),
    ],
)
def test_refusals(data, tmp_path, name, content, options, kind, text):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kind, match=text):
        data.run({"action": "load", "dataset": str(path), **options})


def test_a_folder_is_no_file(data, tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        data.run({"action": "load", "dataset": str(tmp_path)})


def test_setup_takes_what_load_takes(tmp_path):
    data = Data()
    data.setup({"dataset": str(write_example(tmp_path / "events.parquet", 1000)), "name": "e"})
    assert data.run({"action": "tables"})[0]["rows"] == 1000
    found = data.run({"action": "analyze", "type": "correlations"})
    assert found["strongest"][0]["columns"] == ["amount", "duration"]


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("warmd.apps.data")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install 'warmd\[data\]'"):
        import warmd.apps.data  # noqa: F401


def test_a_relative_path_is_told_the_remedy(data):
    with pytest.raises(FileNotFoundError, match=r"there is no file none.parquet .*: give an absolute path"):
        data.load(dataset="none.parquet")
