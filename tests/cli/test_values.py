"""INPUT and results: shell words, JSON and Python values."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pytest

from warmd.cli import values
from warmd.protocol.buffers import Array
from warmd.protocol.files import File


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["null"], None),
        (["[1, 2.5, true]"], [1, 2.5, True]),
        (['"a=b"'], "a=b"),
        (["by=2"], {"by": 2}),
        (["action=init", "n=1.5", 'names=["a"]', "system=You are kind"],
         {"action": "init", "n": 1.5, "names": ["a"], "system": "You are kind"}),
        (["text="], {"text": ""}),
        (["text=a=b\nc"], {"text": "a=b\nc"}),
        (['{"a": {"$bytes": "AAE="}}'], {"a": b"\x00\x01"}),
        (['{"$float": "-inf"}'], -math.inf),
        (['{"$complex": [1, -2]}'], 1 - 2j),
        (['{"$other": 1}'], {"$other": 1}),
    ],
)  # fmt: skip
def test_words_become_a_value(words: list[str], expected: object) -> None:
    assert values.parse_input(words) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hello"], "INPUT is not JSON"),
        (["{broken"], "INPUT is not JSON"),
        (["a=1", "b"], "'b' is not KEY=VALUE"),
        (["a=1", "b=1", "a=2"], "INPUT has 'a' more than once"),
        (["@/no/such/file.json"], "cannot read /no/such/file.json"),
        (['{"$bytes": "!"}'], "$bytes"),
        (['{"$float": []}'], "$float"),
        (["[" * 100_000], "nested too deeply"),
    ],
)
def test_what_is_no_input_is_named(words: list[str], said: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        values.parse_input(words)
    assert said in caught.value.format_message()


def test_input_from_a_file_and_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.json").write_text('{"text": "grüße"}')
    assert values.parse_input([f"@{tmp_path}/in.json"]) == {"text": "grüße"}
    monkeypatch.setattr("sys.stdin", io.StringIO("[1]"))
    assert values.parse_input(["-"]) == [1]


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(click.UsageError, match="not UTF-8"):
        values.parse_input([f"@{tmp_path}/in.json"])


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": (1, None), "b": True}, {"a": [1, None], "b": True}),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        ({1: "a", "1": "b"}, {"$map": [[1, "a"], ["1", "b"]]}),
        ({(1, 2): 3}, {"[1, 2]": 3}),
        (math.nan, {"$float": "nan"}),
        ([-math.inf], [{"$float": "-inf"}]),
        (b"\x00\x01", {"$bytes": "AAE="}),
        ({3, 1, 2}, [1, 2, 3]),
        (1 + 2j, {"$complex": [1.0, 2.0]}),
        (np.array([[1, 2], [3, 4]], dtype="<i4"), [[1, 2], [3, 4]]),
        (np.array([1.5, math.inf]), [1.5, {"$float": "inf"}]),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array(["2026-01-02T03:04"], dtype="M8[m]"), ["2026-01-02T03:04:00"]),
        (pa.table({"a": [1, None], "b": [b"\0\1", b""]}),
         [{"a": 1, "b": {"$bytes": "AAE="}}, {"a": None, "b": {"$bytes": ""}}]),
        (Array("|u1", (2,), "C", b"\0\1"), {"$array": {"dtype": "|u1", "shape": [2], "data": "AAE="}}),
    ],
)
def test_a_value_becomes_json(value: object, plain: object) -> None:
    assert values.to_plain(value) == plain
    assert json.loads(values.to_json(value)) == plain


def test_a_file_is_its_path(tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text("x")
    file = File(tmp_path / "report.txt")
    assert values.to_plain({"report": file}) == {"report": str(tmp_path / "report.txt")}


def test_sets_that_cannot_be_sorted_are_lists_too() -> None:
    assert sorted(values.to_plain({1, "a"}), key=str) == [1, "a"]


def test_text_that_the_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert values.to_json("grüße") == '"gr\\u00fc\\u00dfe"'
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert values.to_json("grüße") == '"grüße"'
    assert values.to_json("\ud800") == '"\\ud800"'


def test_options_with_pairs() -> None:
    assert values.parse_pairs(["A=1", "B=x=y"], "--env") == {"A": "1", "B": "x=y"}
    with pytest.raises(click.UsageError, match="--env wants KEY=VALUE, got 'A'"):
        values.parse_pairs(["A"], "--env")
    with pytest.raises(click.UsageError, match="--env has 'A' more than once"):
        values.parse_pairs(["A=1", "A=1"], "--env")
