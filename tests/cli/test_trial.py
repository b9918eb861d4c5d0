"""`warmd app test` with real daemons of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.cli.told import WORDS
from warmd.cli import main
from warmd.cli.outcome import brief, not_json

Try = Callable[..., tuple[int, str, str]]

GOOD = """
class App:
    def setup(self, config=None):
        self.n = (config or {}).get("start", 0)
    def run(self, text="x", top=3):
        self.n += 1
        return {"n": self.n, "text": text}
    def parts(self):
        yield from range(3)
"""


@pytest.fixture(autouse=True)
def described(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each app is said to be; a test may change it."""
    run = {"name": "run", "doc": "", "input_schema": {"properties": {}}, "streams": False}
    told = {**WORDS, "functions": [run, {**run, "name": "parts", "streams": True}]}
    monkeypatch.setattr(warmd.Client, "describe", lambda *_: told)
    return told


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Try:
    """Tries the app of this source: the exit code, and both outputs."""
    monkeypatch.chdir(tmp_path)

    def run(source: str, *words: str) -> tuple[int, str, str]:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        (folder / "app.py").write_text(source)
        code = main(["app", "test", "mine", *words])
        return code, *capsys.readouterr()

    return run


def test_a_good_app(tried: Try, tmp_path: Path) -> None:
    code, out, err = tried(GOOD, "text=hello", "--setup", '{"start": 5}')
    assert (code, err) == (0, "")
    findings, times, outputs = out.rstrip().split("\n\n")
    told = [line.split(None, 2) for line in findings.splitlines()[1:]]
    assert [(level, check) for level, check, _ in told] == [
        ("ok", "app"), ("ok", "start"), ("ok", "calls"), ("ok", "output"), ("ok", "end"), ("ok", "schema"),
    ]  # fmt: skip
    assert told[0][2] == f"{tmp_path}/mine"
    assert told[-1][2] == "of run, parts (streams)"
    assert times.splitlines()[0].split() == ["queue", "spawn", "imports", "setup", "run", "total"]
    assert [line.split("  ")[0] for line in times.splitlines()[1:]] == ["cold", "warm 1", "warm 2"]
    assert [line.split(None, 1)[0] for line in outputs.splitlines()] == ["input", "cold", "warm", "warm"]
    assert '{"n": 6, "text": "hello"}' in outputs and '{"n": 8, "text": "hello"}' in outputs


def test_for_programs(tried: Try) -> None:
    code, out, _ = tried(GOOD, "-f", "parts", "--json")
    found = json.loads(out)
    assert (code, found["healthy"], found["error"], found["function"]) == (0, True, None, "parts")
    assert [(call["label"], call["parts"], call["output"]) for call in found["calls"]] == [
        ("cold", 3, 2), ("warm 1", 3, 2), ("warm 2", 3, 2),
    ]  # fmt: skip
    assert found["calls"][0]["timing"]["cold"] and not found["calls"][1]["timing"]["cold"]
    assert found["calls"][0]["timing"]["spawn"] > 0, "a first start, though the app was described before"


def test_a_generator_shows_its_first_part(tried: Try) -> None:
    _, out, _ = tried(GOOD, "-f", "parts")
    assert "first part" in out
    assert "cold     3 parts, the last: 2" in out


def test_an_input_is_made_of_the_schema(tried: Try, described: dict[str, Any]) -> None:
    described["functions"][0]["input_schema"] = {
        "properties": {"text": {"examples": ["an example"]}, "top": {"default": 1}}, "required": ["text"]
    }  # fmt: skip
    _, out, _ = tried(GOOD)
    assert 'input    {"text": "an example"}' in out
    assert '"text": "an example"' in out.splitlines()[-1]


def test_an_input_that_cannot_be_made_is_asked_for(tried: Try, described: dict[str, Any]) -> None:
    described["functions"][0]["input_schema"] = {
        "properties": {"text": {"type": "string"}, "n": {"type": "integer"}, "top": {"default": 1}},
        "required": ["text", "n"],
    }
    code, out, err = tried(GOOD)
    assert (code, out) == (2, "")
    assert "run needs an INPUT: its schema has no default and no example for text, n" in err
    assert "warmd app test ./mine text=TEXT n=N [top=1]" in err


@pytest.mark.parametrize(
    ("source", "code", "check", "said"),
    [
        ("import nosuchmodule\nclass App: pass", 1, "start", "line 1, in <module>"),
        ("class App:\n    def setup(self): raise ValueError('no model')", 1, "start", "ValueError: no model"),
        ("class App:\n    def run(self): raise ValueError('no luck')", 1, "cold", "app.py\", line 2, in run"),
        ("import os\nclass App:\n    def run(self): print('bye', flush=True); os._exit(7)", 4, "cold", "bye"),
        ("class App:\n    def other(self): pass", 2, "app", "run"),
        ("x = 1", 2, "app", "defines no class"),
        ("class App:\n    def run(self):\n        while True: pass", 124, "cold", "app.py:3 in run"),
    ],
)  # fmt: skip
def test_an_app_that_fails(tried: Try, source: str, code: int, check: str, said: str) -> None:
    found, out, err = tried(source, "--timeout", "3")
    assert found == code
    assert err.startswith("warmd: ") and said in err
    assert out.splitlines()[1].split()[:2] == ["bad", check]
    assert "it has tests" not in out


def test_why_an_app_does_not_start_is_told_whole(tried: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reason = "it asks for a GPU, and none is to be seen here: " + "there is no driver; " * 5 + "that is all"
    _, out, _ = tried(f"class App:\n    def setup(self): raise ValueError({reason!r})", "{}")
    assert all(len(line) <= 80 for line in out.splitlines() if "no driver" in line and "/" not in line)
    assert reason in " ".join(out.split())


def test_an_app_that_fails_later_has_told_what_went_well(tried: Try) -> None:
    source = "class App:\n    n = 0\n    def run(self):\n        self.n += 1\n        return 6 / (2 - self.n)"
    code, out, err = tried(source)
    assert code == 1 and "ZeroDivisionError" in err
    assert "bad  warm 1  ZeroDivisionError" in out
    assert "cold     6.0" in out
    code, out, _ = tried(source, "--json")
    found = json.loads(out)
    assert (found["healthy"], found["error"]["code"], len(found["calls"])) == (False, "APP_ERROR", 1)
    assert "ZeroDivisionError" in found["error"]["details"]["traceback"]


def test_an_app_that_cannot_be_forked(tried: Try) -> None:
    source = "import socket\nSOCKET = socket.socket()\nclass App:\n    def run(self): return 1"
    code, out, _ = tried(source)
    assert code == 0
    told = " ".join(out.split())
    assert "warn start each session imports the app anew, for it cannot be forked: " in told
    assert "opened a socket" in told


def test_an_unload_that_raises(tried: Try) -> None:
    source = "class App:\n    def run(self): return 1\n    def unload(self): raise ValueError('stuck')"
    code, out, _ = tried(source)
    assert code == 1
    assert "bad  end     unload raised:" in out and "ValueError: stuck" in out


def test_a_schema_that_cannot_be_made(tried: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(*_: Any) -> None:
        raise warmd.StartFailed("no schema of 'x: Strange'")

    monkeypatch.setattr(warmd.Client, "describe", describe)
    code, out, err = tried(GOOD, "{}")
    assert (code, err) == (1, "warmd: no schema of 'x: Strange'\n")
    assert "ok   calls" in out and "bad  schema  no schema of 'x: Strange'" in out


def test_an_output_that_json_has_not(tried: Try) -> None:
    code, out, _ = tried("class App:\n    def run(self): return {'a': [1, b'xyz']}")
    assert code == 0
    assert "warn  output  output['a'][1] is bytes, which JSON has not" in out
    assert 'cold     {"a": [1, "<bytes, 3 bytes>"]}' in out


def test_tests_are_named_and_not_run(tried: Try, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "test_app.py").write_text("raise SystemExit('was run')")
    _, out, _ = tried(GOOD)
    assert "It has tests, which were not run: python -m pytest ./mine" in out


def test_a_daemon_elsewhere_is_no_place_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "/tmp/x.sock", "app", "test", "counter"]) == 2
    assert "leave out --host" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, "a", None, True, {"b": [1.5]}], ""),
        ({"a": [{"b": float("inf")}]}, "output['a'][0]['b'] is inf"),
        ({1: 2}, "output has the key 1"),
        ((1, 2), "output is tuple"),
    ],
)
def test_what_json_has_not(value: Any, said: str) -> None:
    assert not_json(value, "output") == said


def test_a_value_in_brief_is_small_json() -> None:
    deep: Any = "end"
    for _ in range(50):
        deep = [deep] * 50
    value = {"deep": deep, "text": "x" * 10**6, "raw": b"x" * 10**6, 3: float("nan")}
    value |= {str(n): n for n in range(100)}
    assert len(json.dumps(brief(value))) < 100_000
    assert brief({"a": (1, None)}) == {"a": [1, None]}
