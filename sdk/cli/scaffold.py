"""`warmd app new`: a folder with an app that works, to be made one's own."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from pathlib import Path

import click

from warmd.cli.exits import BAD_CONFIG, Refusal
from warmd.cli.talk import data, json_object, json_option, say
from warmd.cli.templates import EXAMPLE_TEXT, files

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
DEFAULT_NAME = "my-app"


@click.command()
@click.argument("name")
@click.option(
    "--in", "parent", default=".", metavar="DIR", type=click.Path(), help="Where to make it.  [here]"
)
@click.option("--stream", is_flag=True, help="An app whose `run` yields its result bit by bit.")
@json_option
def new(name: str, parent: str, stream: bool, as_json: bool) -> None:
    """Make a folder with an app that works, to be made your own.

    It has the class itself (app.py), what warmd should know of it (app.toml) and its tests
    (test_app.py). NAME is that of the folder.
    """
    check_name(name)
    folder = Path(parent).expanduser() / name
    texts = files(name, streams=stream)
    _write(folder, texts)
    shown = place(folder)
    if as_json:
        json_object(name=name, folder=str(folder.absolute()), files=list(texts))
        return
    data(f"made {shown} with {', '.join(texts)}")
    say(_next_steps(shown, stream))


def check_name(name: str) -> None:
    """Raises click.UsageError for a name that would be a nuisance, with one that would not."""
    if NAME.fullmatch(name):
        return
    if os.sep in name:
        folder, last = os.path.split(name.rstrip(os.sep))
        better = f"`warmd app new {_better(last)} --in {shlex.quote(folder or os.sep)}`"
        raise click.UsageError(f"{name!r} is a path: {better} makes it there")
    raise click.UsageError(
        f"{name!r} is no good name for an app: it takes a letter and then at most 63 letters, digits, '-' or "
        f"'_', such as {_better(name)!r}"
    )


def _better(name: str) -> str:
    found = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:64]
    return found if NAME.fullmatch(found) else f"app-{found}"[:64].strip("-") if found else DEFAULT_NAME


def _write(folder: Path, texts: dict[str, str]) -> None:
    """Make the folder.  Raises Refusal, and changes nothing that is there."""
    if not folder.parent.is_dir():
        raise click.UsageError(f"there is no folder {folder.parent}: make it, or name another with --in")
    if os.path.lexists(folder):
        raise click.UsageError(
            f"{place(folder)} is there already; nothing in it was changed: choose another name, or remove it"
        )
    try:
        folder.mkdir()
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refusal(f"cannot make {error.filename or folder}: {error.strerror}", BAD_CONFIG) from None


def place(folder: Path) -> str:
    """How a command names a folder: `./hello` where it lies below the working directory."""
    path = os.path.abspath(folder)
    below = os.path.relpath(path)
    return path if below.split(os.sep)[0] == os.pardir else os.path.join(os.curdir, below)


def how_to_test(shown: str) -> tuple[str, str]:
    """The command that runs the tests of a folder, and a remark."""
    remark = "its tests" if importlib.util.find_spec("pytest") else "its tests; needs `pip install pytest`"
    return f"python -m pytest {shlex.quote(shown)}", remark


def _next_steps(shown: str, streams: bool) -> str:
    app = shlex.quote(shown)
    run = f"warmd run {app} text={shlex.quote(EXAMPLE_TEXT)}"
    steps = [
        (f"{run} --stream" if streams else f"{run} --session new", "runs it"),
        (f"warmd run {app} --help-app", "what it takes"),
        (f"warmd app test {app}", "tries it out: cold beside warm"),
        how_to_test(shown),
    ]
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command:{width}}  # {remark}" for command, remark in steps]
    return "\n".join(["next:", *lines, f"Then make {shown}/app.py your own."])
