"""The commands by themselves: help, options, tables, completion; no daemon."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import warmd
from warmd.cli import calls, main, root
from warmd.cli.completion import complete_sessions
from warmd.cli.demo import WORD, _Show
from warmd.cli.serve import serve
from warmd.cli.service import described
from warmd.cli.sessions import lines_of, listing

INFO: dict[str, Any] = {
    "id": "sess_3f2a91bc000000000000000000000000",
    "kind": "session",
    "app": "counter",
    "name": "mine",
    "labels": {},
    "state": "idle",
    "created": 1000.0,
    "last_call": 1040.0,
    "calls": 3,
    "queued": 0,
    "running_call": None,
    "running_seconds": None,
    "idle_timeout": 60.0,
    "expires_in": 45.0,
    "pid": 4711,
    "memory": 20 * 2**20,
    "gpu": None,
    "reason": None,
    "progress": None,
}
EXTRAS = ("httpx", "matplotlib", "numpy", "orjson", "prometheus_client", "starlette", "torch", "uvicorn")


@pytest.mark.parametrize("name", root.COMMANDS)
def test_the_table_of_commands_says_what_each_says_of_itself(name: str) -> None:
    ctx = click.Context(root.cli)
    command = root.cli.get_command(ctx, name)
    assert command is not None
    assert command.name == name
    assert len(root.COMMANDS[name].help) <= 64, "does not fit one line of 80 columns"
    assert command.help


@pytest.mark.parametrize("name", root.COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: warmd {name}" in capsys.readouterr().out


def test_each_command_has_help_without_what_only_extras_install() -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({EXTRAS!r}))
from warmd.cli import main, root
print(*(main([name, "--help"]) for name in root.COMMANDS))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert set(done.stdout.splitlines()[-1].split()) == {"0"}


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: warmd") and not err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in root.COMMANDS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pss"], "warmd: no such command 'pss'; did you mean 'ps'?"),
        (["xyzzy"], "warmd: no such command 'xyzzy'"),
        (["ps", "--jsn"], "--json"),
        (["run"], "warmd: Missing argument 'APP'."),
        (["end"], "warmd: say which: SESSION..., --app APP or --all"),
        (["end", "ab", "--all"], "warmd: give one of SESSION..., --app APP and --all, not several"),
        (["park", "--all", "--app", "a"], "warmd: give one of SESSION..., --app APP and --all, not several"),
        (["park", "--app"], "\nTry 'warmd park --help'."),
        (["apps", "inspect", "--jsn"], "\nTry 'warmd apps inspect --help'."),
        (["--host"], "\nTry 'warmd --help'."),
        (["run", "counter", "{bad"], "warmd: INPUT is not JSON"),
        (["run", "counter", "--setup", "{bad"], "warmd: --setup is not JSON"),
        (["run", "counter", "--env", "A"], "warmd: --env wants KEY=VALUE"),
        (["--host", "tcp://1.2.3.4:5", "ps"], "needs a key"),
        (["--host", "relative.sock", "ps"], "absolute path"),
    ],
)
def test_errors_of_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == main(["--version"]) == 0
    assert capsys.readouterr().out == f"{warmd.__version__}\n" * 2
    assert main(["version", "--json"]) == 0
    assert capsys.readouterr().out == f'{{"schema_version": 1, "version": "{warmd.__version__}"}}\n'


def test_a_wrong_setting_is_a_bad_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--max-sessions", "0"]) == 78
    assert "--max-sessions" in capsys.readouterr().err
    Path("warmd.toml").write_text("max_sesions = 3")
    assert main(["serve"]) == 78
    assert "did you mean max_sessions" in capsys.readouterr().err


def test_start_says_what_is_wrong_with_the_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WARMD_MAX_QUEUE", "many")
    assert main(["start"]) == 78
    assert "'many' is not a count" in capsys.readouterr().err


def test_start_says_what_an_address_is_in_the_way_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("WARMD_HOST", str(tmp_path / "warmd.sock"))
    assert main(["start"]) == 2
    assert "WARMD_HOST (or --host) names a daemon elsewhere" in capsys.readouterr().err


def test_whoever_started_the_daemon_is_told_of_a_wrong_setting(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb") as reader:
        try:
            assert (
                main(["serve", "--max-queue", "x", "--run-dir", str(tmp_path), "--ready-fd", str(theirs)])
                == 78
            )
        finally:
            os.close(theirs)
        assert b"--max-queue" in reader.read()


def test_serve_has_a_flag_for_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    from warmd.daemon.config import schema

    main(["serve", "--help"])
    out = capsys.readouterr().out
    assert all("--" + row.name.replace("_", "-") in out for row in schema())
    assert "--ready-fd" not in out


def test_no_two_options_of_serve_are_kept_under_one_name() -> None:
    names = [option.name for option in serve.params]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_WARMD_COMPLETE" in capsys.readouterr().out


def test_completion_without_a_daemon_offers_nothing_and_starts_none(tmp_path: Path) -> None:
    ctx = click.Context(root.cli)
    ctx.params["host"] = f"{tmp_path}/none.sock"
    assert complete_sessions(ctx, click.Argument(["session"]), "") == []


def test_click_completes_commands() -> None:
    environ = {**os.environ, "_WARMD_COMPLETE": "bash_complete", "COMP_WORDS": "warmd st", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from warmd.cli import main; main()"],
        env=environ, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.split() == ["plain,start", "plain,stop", "plain,status"]


def test_the_listing() -> None:
    pool = {
        **INFO,
        "id": "pool_aabbccdd00000000",
        "kind": "pool",
        "name": None,
        "state": "busy",
        "running_seconds": 2,
    }
    lines = listing([INFO, pool], now=1100.0).splitlines()
    assert lines[1].split() == [
        "3f2a91bc",
        "counter",
        "mine",
        "idle",
        "3",
        "0",
        "1m40s",
        "45s",
        "4711",
        "20.0M",
    ]
    assert lines[2].split()[:5] == ["aabbccdd", "counter", "(pool)", "busy", "2.0s"]
    assert INFO["id"] in listing([INFO], now=1100.0, whole_ids=True)


def test_the_listing_of_what_is_gone() -> None:
    gone = {
        **INFO,
        "state": "died",
        "reason": "killed by SIGKILL\nlast words",
        "app": "/home/" + "x" * 40 + "/app",
    }
    heads, line = listing([gone], now=1100.0).splitlines()
    assert heads.endswith("REASON")
    assert line.endswith("  killed by SIGKILL")
    assert "x/app" in line
    assert "/home" not in line


def test_answers_break_between_words_at_the_edge_of_the_terminal() -> None:
    show = _Show(quiet=False)
    show._width = 22
    pieces = ["One", " two", " three", "teen", " four", ".\n", "Five", " six seven eight nine"]
    shown = "".join(show._placed(word) for piece in pieces for word in WORD.findall(piece))
    assert shown == "One two threeteen\nfour.\nFive six seven\neight nine"


def test_lines_of_pieces() -> None:
    assert list(lines_of([b"a\nb", b"c\n", b"\n", b"end"])) == [b"a", b"bc", b"", b"end"]
    assert list(lines_of([])) == []


def test_the_function_is_the_first_word_if_it_is_a_name() -> None:
    assert doctest.testmod(calls).failed == 0


def test_the_status_in_words() -> None:
    found = {
        "version": "0.1.0", "pid": 7, "uptime_seconds": 61.0, "memory": 2**20, "address": "unix:///x",
        "sessions": 1, "max_sessions": 256, "running": 0, "queued": 2, "log_lines_dropped": 3,
        "templates": [{"app": app, "state": "up", "forks": forks, "memory": 2**20}
                      for app, forks in (("a", 1), ("b", 2))],
    }  # fmt: skip
    text = described(found)
    assert "warmd 0.1.0 is running: pid 7, for 1m1s" in text
    assert "0 running, 2 waiting" in text
    assert "3 log lines were lost" in text
    assert "templates: a (1 fork, 1.0M), b (2 forks, 1.0M)" in text


def test_a_reader_that_leaves_is_no_error() -> None:
    script = f"{sys.executable} -m warmd completion bash | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert done.returncode in (0, root.BROKEN_PIPE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ps", "--json", "--jsn"], "--json"),
        (["run", "--json"], "Missing argument 'APP'."),
        (["end", "--json"], "say which: SESSION..., --app APP or --all"),
        (["pss", "--json"], "did you mean 'ps'?"),
    ],
)
def test_an_error_of_usage_is_json_too_where_that_was_asked_for(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert (error["code"], error["ran"]) == ("INVALID", "no")
    assert said in error["message"] and said in err


def test_a_word_after_the_double_dash_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pss", "--", "--json"]) == 2
    assert capsys.readouterr().out == ""
