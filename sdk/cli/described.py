"""What an app says of itself, for people: its functions, their inputs, and how to call them."""

from __future__ import annotations

import difflib
import shlex
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from warmd.cli.examples import usage
from warmd.cli.exits import USAGE, Refusal
from warmd.cli.schemas import (
    MISSING,
    Parameter,
    choices,
    cut,
    members,
    one_line,
    parameters,
    text_of,
    words,
)
from warmd.cli.talk import canvas, table
from warmd.protocol import units
from warmd.protocol.gpus import GpuAsk

if TYPE_CHECKING:
    from warmd.client import Client

MIN_ABOUT_WIDTH = 24
ENTRY_HEADS = ("Args", "Arguments")
PROSE_WIDTH = 50
"""Prose has no shorter lines but the last of a paragraph."""
INDENT = "  "
UNITS = ("GiB", "GB", "MiB", "MB", "KiB", "kB")

Function = Mapping[str, Any]
Description = Mapping[str, Any]


def describe(client: Client, app: str) -> dict[str, Any]:
    """What the daemon tells of an app.  Raises the WarmdError of one that is not found or cannot be imported.

    `app`, `doc`, `default_function`, `setup_schema`, in `found` where it is and what its manifest asks for,
    and of each of `functions` its `name`, `doc`, `input_schema`, `output_schema`, `streams` and `async`.
    """
    from warmd.cli.calls import from_here

    return from_here(client, lambda options: client.describe(options["app"]), {"app": app})


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
    width, default = canvas()[0], description.get("default_function")
    lines: list[str] = []
    function = None
    if name is not None or default:
        function = function_of(description, name)
        lines += [command_line(app, function, description), "", *_details(function, width)]
    if name is None:
        about = _paragraphs(description.get("doc"), width)
        lines = [*about, "", *lines, *_setup(description, width), *_others(description, app, function)]
    return "\n".join(lines).strip("\n")


def _others(description: Description, app: str, function: Function | None) -> list[str]:
    others = [command_line(app, one, description) for one in description["functions"] if one is not function]
    if not others:
        return []
    more = f"`warmd run {shlex.quote(app)} -f FUNCTION --help-app` tells more of one."
    head = "other functions:" if function else "functions, of which none is called without a name:"
    return ["", head, *_indented([*others, *_left_out(description)]), "", more]


def _left_out(description: Description) -> list[str]:
    return [f"and {description['left_out']} more"] if description.get("left_out") else []


def command_line(app: str, function: Function, description: Description) -> str:
    """The command that calls a function: `warmd run ./app -f tokens text=TEXT --stream`."""
    named = [] if function["name"] == description.get("default_function", "run") else ["-f", function["name"]]
    inputs = usage(function.get("input_schema"))
    streams = ["--stream"] if function.get("streams") else []
    return " ".join(["warmd run", shlex.quote(app), *named, *([inputs] if inputs else []), *streams])


def found_of(description: Description) -> Mapping[str, Any]:
    """Where the app is, and what its manifest asks for."""
    found = description.get("found")
    return found if isinstance(found, dict) else {}


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Those that say something, in words; limits and the like, in `asks`, a line each.

    >>> facts({"target": "app:App", "python": None, "paths": ["/a", "/b"], "asks": {"idle_seconds": 300.0}})
    [('target', 'app:App'), ('paths', '/a, /b'), ('idle seconds', '300.0')]
    >>> facts({"asks": {"gpu": (0, 0.5, 0), "park": False}})
    [('gpu', '0.5'), ('park', 'never')]
    """
    told: list[tuple[str, str]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            told += [(name.replace("_", " "), _asked(name, one)) for name, one in value.items()]
        elif value or (value == 0 and value is not False):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            told.append((key.replace("_", " "), "yes" if value is True else text))
    return [(cut(one_line(name), 16), one_line(text)) for name, text in told]


def _asked(name: str, value: object) -> str:
    """As its manifest would say it."""
    if name == "gpu" and isinstance(value, list | tuple) and len(value) == len(GpuAsk._fields):
        ask = GpuAsk(*value)
        return _amount(ask.bytes) if ask.bytes else f"{ask.share or ask.whole:g}"
    if name == "park":
        return "auto" if value else "never"
    return text_of(value)


def _amount(count: int) -> str:
    """An exact number of bytes in the largest unit that has no fraction.

    >>> _amount(20 * 10**9), _amount(10 * 2**30), _amount(1_500_000_000), _amount(1023)
    ('20GB', '10GiB', '1500MB', '1023B')
    """
    sizes = ((unit, units.size_bytes(f"1{unit}", what=unit)) for unit in UNITS)
    return next((f"{count // size}{unit}" for unit, size in sizes if count % size == 0), f"{count}B")


def page(description: Description, registered: Mapping[str, Any]) -> str:
    """The whole app: what it is, where it was found, its functions and its `setup`."""
    width = canvas()[0] - len(INDENT)
    told = facts({**registered, **found_of(description)})
    lines = [str(description["app"]), *_indented(_paragraphs(description.get("doc"), width))]
    lines += [""] * bool(told) + [f"{name + ':':18}{value}" for name, value in told]
    for function in description["functions"]:
        marks = ["called without a name"] * (function["name"] == description.get("default_function"))
        marks += ["streams"] * bool(function.get("streams")) + ["async"] * bool(function.get("async"))
        lines += ["", function["name"] + (f" ({', '.join(marks)})" if marks else "")]
        lines += _indented(_details(function, width))
    return "\n".join([*lines, *_left_out(description), *_setup(description, width)])


def _details(function: Function, width: int) -> list[str]:
    """Its documentation, what it takes and what it gives."""
    schema, problem = function.get("input_schema"), one_line(function.get("error"))
    about = _paragraphs(_without_entries(function.get("doc"), schema), width)
    lines = [*about, *([""] if about else [])]
    if problem:
        return [*lines, *textwrap.wrap(f"nothing is known of its input: {problem}", width)]
    lines += _taken(schema, "INPUT", width)
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
        return _rows([[head, "TYPE", "DEFAULT", "ABOUT"], *rows], width) + _alternatives(schema)
    nothing = isinstance(schema, dict) and schema.get("properties") == {}
    return [f"takes no {head}" if nothing else f"{head}: {words(schema)}"]


def _alternatives(schema: object) -> list[str]:
    """What may be given in place of an object of the parameters."""
    root: dict[str, Any] = schema if isinstance(schema, dict) else {}
    if root.get("properties"):
        return []
    others = [words(one, root) for one in choices(root, root) if not members(one, root)[0]]
    return [f"or, in place of them: {' or '.join(others)}"] if others else []


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
    """A documentation with a blank line between its paragraphs.

    Prose is broken anew; where lines end early, as in a list, they stay as they are.
    """
    found: list[str] = []
    for part in str(text or "").strip().split("\n\n"):
        lines = [line.rstrip() for line in part.splitlines() if line.strip()]
        is_prose = all(len(line) >= PROSE_WIDTH and not line.startswith(" ") for line in lines[:-1])
        if is_prose:
            lines = textwrap.wrap(one_line(part), width)
        found += ["", *(_kept(line, width) for line in lines)] if lines else []
    return found[1:]


def _without_entries(text: object, schema: object) -> str:
    """A documentation without the paragraphs about parameters, whose table tells the same."""
    told = {one.name for one in parameters(schema) if one.about}
    parts = str(text or "").split("\n\n")
    entries = {*told, *ENTRY_HEADS} if told else told
    return "\n\n".join(part for part in parts if part.strip().partition(":")[0] not in entries)


def _kept(line: str, width: int) -> str:
    """A line with its indentation."""
    return cut(" " * (len(line) - len(line.lstrip())) + one_line(line), width)
