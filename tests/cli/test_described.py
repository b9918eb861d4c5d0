"""`warmd apps inspect` and `warmd run --help-app`: what an app says of itself, as a user reads it."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.cli.shell import Shell
from tests.cli.told import WORDS
from warmd.cli import described, main
from warmd.cli.described import how_to_call, page
from warmd.protocol.errors import Invalid

HELP = """\
Counts words.

Remembers them too.

warmd run ./words text=TEXT [top=3] [size='{...}']

Adds a text.

INPUT       TYPE            DEFAULT   ABOUT
text        text            required  What to count. What to count. What to
                                      count. What to count. What to count. What
                                      to count. What to count. What to count.
top         integer from 1  3
size        object
size.width  integer

gives: object
  n  integer

setup, for a new session: --setup JSON
  SETUP  TYPE        DEFAULT
  lower  true/false  true

other functions:
  warmd run ./words -f words '"TEXT"' --stream
  warmd run ./words -f reset

`warmd run ./words -f FUNCTION --help-app` tells more of one."""

PAGE_ENDS = """\
words (streams, async)
  INPUT: text

  yields: text

reset
  takes no INPUT

setup, for a new session: --setup JSON
  SETUP  TYPE        DEFAULT
  lower  true/false  true"""


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.testing.daemon() as found:
        found.status()
        yield found


@pytest.fixture
def shell(client: warmd.Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "80")
    return Shell(client.address, capsys)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The apps that the daemon was asked to describe; it tells the same of each."""
    found: list[Any] = []

    def describe(_: warmd.Client, app: Any) -> dict[str, Any]:
        found.append(app)
        return WORDS

    monkeypatch.setattr(warmd.Client, "describe", describe)
    return found


def test_how_to_call_an_app(shell: Shell, client: warmd.Client, asked: list[Any]) -> None:
    assert "\n".join(shell("run", "./words", "--help-app")) == HELP
    assert (shell.code, shell.err, asked) == (0, "", ["./words"])
    assert client.sessions.list(all=True) == [], "nothing was called"


@pytest.mark.usefixtures("asked")
def test_how_to_call_one_function(shell: Shell) -> None:
    lines = shell("run", "./words", "-f", "words", "--help-app")
    assert lines == ["warmd run ./words -f words '\"TEXT\"' --stream", "", "INPUT: text", "", "yields: text"]
    (found,) = shell.json("run", "./words", "-f", "words", "--help-app")
    assert (found["app"], found["name"], found["streams"]) == ("/apps/words", "words", True)


@pytest.mark.usefixtures("asked")
def test_how_to_call_a_function_that_is_none(shell: Shell) -> None:
    assert shell("run", "./words", "-f", "wrds", "--help-app") == []
    assert shell.code == 2
    assert shell.err == "warmd: app /apps/words has no function 'wrds': did you mean 'words'?\n"


def test_the_function_that_a_call_without_a_name_means() -> None:
    told = {**WORDS, "default_function": "words"}
    assert "\nwarmd run w '\"TEXT\"' --stream\n" in how_to_call(told, "w", None)
    assert "  warmd run w -f run text=TEXT" in how_to_call(told, "w", None)


def test_a_normal_run_asks_for_no_description(shell: Shell, asked: list[Any]) -> None:
    shell("run", "counter")
    assert (shell.code, asked) == (0, [])


@pytest.mark.usefixtures("asked")
def test_an_app_and_where_it_was_found(shell: Shell) -> None:
    lines = shell("apps", "inspect", "./words")
    assert lines[:13] == [
        "/apps/words", "  Counts words.", "", "  Remembers them too.", "",
        "target:           app:App",
        "paths:            /apps/words",
        "requirements:     numpy, regex>1",
        "env:              TOKEN",
        "reload:           yes",
        "idle seconds:     300.0",
        "memory bytes:     null",
        "spares:           0",
    ]  # fmt: skip
    assert "run (called without a name)" in lines
    assert "\n".join(lines).endswith(PAGE_ENDS)
    assert max(map(len, lines)) <= 80


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("words", ["inspect counter --json", "--json inspect counter"])
def test_the_whole_description_for_programs(shell: Shell, words: str) -> None:
    found = json.loads("\n".join(shell("apps", *words.split())))
    assert found.pop("schema_version") == 1
    assert found == {**WORDS, "found": {"source": "package warmd", **WORDS["found"]}}


def test_apps_alone_still_lists(shell: Shell) -> None:
    assert shell("apps")[0].split() == ["NAME", "SOURCE", "TARGET", "FOLDER"]
    assert "counter" in [app["name"] for app in shell.json("apps")[0]["apps"]]


def test_an_app_in_place_of_a_command_is_told_the_command(shell: Shell) -> None:
    shell("apps", "counter")
    assert shell.code == 2
    assert "no such command 'counter'; `warmd apps inspect counter` shows an app" in shell.err


def test_a_folder_without_its_slash_is_named(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    shell("run", "mine")
    assert shell.code == 2
    assert shell.err.endswith("the folder mine in this directory is called ./mine\n")
    shell("run", "others")
    assert "is called" not in shell.err


EDITED = "the app was edited and could not be reloaded"


def _refused(error: Invalid) -> Any:
    def submit(*_: Any, **__: Any) -> Any:
        raise error

    return submit


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["run", "counter"], Invalid("n: no integer", call="00"), "`warmd run counter --help-app`"),
        (["run", "counter", "-s", "new"], Invalid("n", session="sess_1"), "`warmd run counter --help-app`"),
        (["call", "sess_" + "0" * 32], Invalid("n", session="sess_1"), "`warmd run APP --help-app`"),
        (["run", "counter", "--name", "x"], Invalid("session_timeout", call="00"), None),
        (["run", "counter"], Invalid("timeout: no time"), None),
        (["run", "counter"], Invalid("app '/x y' did not start: unknown key", call="00"), None),
        (["run", "counter", "-s", "new"], Invalid("app 'a' did not start: PyYAML", session="sess_1"), None),
        (["call", "sess_" + "0" * 32], Invalid(f"{EDITED}: a.py:1: SyntaxError", session="sess_1"), None),
    ],
)
def test_a_refused_input_is_followed_by_where_it_is_told_of(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, words: list[str], error: Invalid, hint: str | None
) -> None:
    monkeypatch.setattr(warmd.Client, "submit", _refused(error))
    shell(*words)
    first, *more = shell.err.splitlines()
    assert (shell.code, first) == (2, f"warmd: {error.message}")
    assert more == ([f"{hint} shows what it takes"] if hint else [])


def test_the_help_of_warmd_imports_no_command() -> None:
    code = (
        "import sys; from warmd.cli import main; main(['--help']); "
        "print([name for name in sys.modules if name.startswith('warmd.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "['warmd.cli', 'warmd.cli.root']"


def told(**changed: Any) -> dict[str, Any]:
    """The description with its first function changed."""
    first, *others = WORDS["functions"]
    return {**WORDS, "functions": [{**first, **changed}, *others]}


def test_prose_is_broken_anew_and_lists_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    prose = "These words are prose, and it is set in lines as long\nas they may be."
    text = f"{prose}\n\n- one\n- two\n\nExample:\n    run(1)\x1b[31m"
    lines = page(told(doc=text), {}).splitlines()
    start = lines.index("run (called without a name)")
    assert [line[2:] for line in lines[start + 1 : start + 9]] == [
        "These words are prose, and it is set in lines as long as", "they may be.", "", "- one", "- two", "",
        "Example:", "    run(1)[31m",
    ]  # fmt: skip


def test_what_the_table_says_of_parameters_is_not_said_twice() -> None:
    for entries in ("text: what to count\ntop: how many", "Args:\n    text: what to count"):
        text = how_to_call(told(doc=f"Adds.\n\n{entries}\n\nMore: prose."), "w", "run")
        assert "Adds.\n\nMore: prose.\n\nINPUT" in text


def test_a_function_of_which_nothing_is_known() -> None:
    text = how_to_call(told(error="NameError: no 'Strange'", input_schema={}), "w", "run")
    assert text.endswith("nothing is known of its input: NameError: no 'Strange'")


@pytest.mark.parametrize(
    ("asked", "said"),
    [([0, 0.0, 20 * 10**9], "20GB"), ([2, 0.0, 0], "2"), ([0, 0.5, 0], "0.5")],
)
def test_gpus_are_asked_for_as_in_a_manifest(asked: list[Any], said: str) -> None:
    lines = page({**WORDS, "found": {"asks": {"gpu": asked, "park": False}}}, {}).splitlines()
    assert f"gpu:              {said}" in lines and "park:             never" in lines


def test_what_a_real_app_asks_for(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("class App:\n    def run(self): return 1\n")
    (tmp_path / "app.toml").write_text('gpu = "20GB"\npark = "never"\n')
    lines = shell("apps", "inspect", str(tmp_path))
    assert "gpu:              20GB" in lines and "park:             never" in lines


def test_the_examples_in_the_documentation() -> None:
    assert doctest.testmod(described).failed == 0


def test_an_app_without_a_default_function() -> None:
    lines = how_to_call({**WORDS, "default_function": "", "left_out": 2}, "w", None).splitlines()
    at = lines.index("functions, of which none is called without a name:")
    assert lines[at + 1] == "  warmd run w -f run text=TEXT [top=3] [size='{...}']"
    assert lines[at + 4] == "  and 2 more"


def test_an_input_by_name_or_whole() -> None:
    named = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    text = how_to_call(told(input_schema={"anyOf": [named, {"type": "string"}]}), "w", "run")
    assert text.startswith("warmd run w data=TEXT\n")
    assert "data   text  required\nor, in place of them: text\n" in text


def test_no_app_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apps", "inspect"]) == 2
    assert "Missing argument 'APP'" in capsys.readouterr().err
