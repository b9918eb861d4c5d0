"""What an app says of itself, for people: its functions, their inputs, and how to call them."""

from __future__ import annotations

import difflib
import shlex
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from warmd.cli.examples import usage
from warmd.cli.exits import USAGE, Refusal
from warmd.cli.schemas import MISSING, Parameter, cut, one_line, parameters, text_of, words
from warmd.cli.talk import canvas, table

if TYPE_CHECKING:
    from warmd.client import Client

MIN_ABOUT_WIDTH = 24
INDENT = "  "

Function = Mapping[str, Any]
Description = Mapping[str, Any]


def describe(client: Client, app: str) -> dict[str, Any]:
    """What the daemon tells of an app.  Raises the WarmdError of one that is not found or cannot be imported.

    `app`, `doc`, `default_function`, `setup_schema`, and of each of `functions` its `name`, `doc`,
    `input_schema`, `output_schema`, `streams` and `async`.
    """
    from warmd.cli.calls import from_here

    asked: Any = client
    return dict(from_here(client, lambda options: asked.describe(options["app"]), {"app": app}))


def function_of(description: Description, name: str | None) -> Function:
    """The function that a call names, or that one without a name means.  Raises Refusal."""
    name = name or description.get("default_function") or "run"
    functions: dict[str, Function] = {function["name"]: function for function in description["functions"]}
    if name in functions:
        return functions[name]
    close = difflib.get_close_matches(name, functions, n=1)
    hint = f": did you mean {close[0]!r}?" if close else f": there is {', '.join(functions) or 'none'}"
    raise Refusal(f"app {description['app']} has no function {name!r}{hint}", USAGE)


def how_to_call(description: Description, app: str, name: str | None) -> str:
    """How to call one function; without a name the app's default one, with the others in a line each."""
    function, width = function_of(description, name), canvas()[0]
    about = [] if name else [*_paragraphs(description.get("doc"), width), ""]
    lines = [*about, command_line(app, function, description), "", *_details(function, width)]
    if name is None:
        lines += _setup(description, width)
        lines += _others(description, app, function)
    return "\n".join(lines).strip("\n")


def _others(description: Description, app: str, function: Function) -> list[str]:
    others = [command_line(app, one, description) for one in description["functions"] if one is not function]
    if not others:
        return []
    more = f"`warmd run {shlex.quote(app)} -f FUNCTION --help-app` tells more of one."
    return ["", "other functions:", *_indented(others), "", more]


def command_line(app: str, function: Function, description: Description) -> str:
    """The command that calls a function: `warmd run ./app -f tokens text=TEXT --stream`."""
    named = [] if function["name"] == description.get("default_function", "run") else ["-f", function["name"]]
    inputs = usage(function.get("input_schema"))
    streams = ["--stream"] if function.get("streams") else []
    return " ".join(["warmd run", shlex.quote(app), *named, *([inputs] if inputs else []), *streams])


def page(description: Description, facts: Iterable[tuple[str, str]]) -> str:
    """The whole app: what it is, where it was found, its functions and its `setup`."""
    width = canvas()[0] - len(INDENT)
    told = [(cut(name, 16), one_line(value)) for name, value in facts]
    lines = [str(description["app"]), *_indented(_paragraphs(description.get("doc"), width))]
    lines += [""] * bool(told) + [f"{name + ':':17}{value}" for name, value in told]
    for function in description["functions"]:
        marks = ["called without a name"] * (function["name"] == description.get("default_function"))
        marks += ["streams"] * bool(function.get("streams")) + ["async"] * bool(function.get("async"))
        lines += ["", function["name"] + (f" ({', '.join(marks)})" if marks else "")]
        lines += _indented(_details(function, width))
    return "\n".join([*lines, *_setup(description, width)])


def _details(function: Function, width: int) -> list[str]:
    """Its documentation, what it takes and what it gives."""
    about = _paragraphs(function.get("doc"), width)
    lines = [*about, *([""] if about else []), *_taken(function.get("input_schema"), "INPUT", width)]
    given = function.get("output_schema")
    if given is not None:
        lines += ["", f"{'yields' if function.get('streams') else 'gives'}: {words(given)}"]
        lines += _indented(_rows([[one.name, one.type, "", one.about] for one in parameters(given)], width))
    return lines


def _setup(description: Description, width: int) -> list[str]:
    schema = description.get("setup_schema")
    if schema is None:
        return []
    return ["", "setup, for a new session: --setup JSON", *_indented(_taken(schema, "SETUP", width))]


def _taken(schema: object, head: str, width: int) -> list[str]:
    """An input as a table of its parameters, or in words."""
    found = parameters(schema)
    if found:
        rows = [[one.name, one.type, _default(one), one.about] for one in found]
        return _rows([[head, "TYPE", "DEFAULT", "ABOUT"], *rows], width)
    nothing = isinstance(schema, dict) and schema.get("properties") == {}
    return [f"takes no {head}" if nothing else f"{head}: {words(schema)}"]


def _rows(rows: list[list[str]], width: int) -> list[str]:
    """Name, type, default and description as a table, broken at its edge."""
    if not rows:
        return []
    taken = sum(max(len(row[at]) for row in rows) + len(INDENT) for at in range(3))
    room = max(MIN_ABOUT_WIDTH, width - taken)
    broken = []
    for *cells, about in rows:
        line, *lines = textwrap.wrap(about, room) or [""]
        broken += [[*cells, line], *([*[""] * len(cells), line] for line in lines)]
    kept = [at for at in range(4) if any(row[at] for row in broken[rows[0][1] == "TYPE" :])]
    first, *more = [[row[at] for at in kept] for row in broken]
    return table(first, more).splitlines()


def _indented(lines: Iterable[str]) -> list[str]:
    return [INDENT + line if line else "" for line in lines]


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    return "" if parameter.default is MISSING else text_of(parameter.default)


def _paragraphs(text: object, width: int) -> list[str]:
    """A documentation, broken anew, with a blank line between its paragraphs."""
    parts = [one_line(part) for part in str(text or "").split("\n\n")]
    lines = [line for part in parts if part for line in ["", *textwrap.wrap(part, width)]]
    return lines[1:]
