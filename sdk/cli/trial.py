"""`warmd app test`: an app tried once cold and twice warm, in a daemon of its own, with what was found.

With an INPUT that must first be made from the app's schema there are two daemons: asking for the schema
imports the app, and the first start is to be as cold as a first start is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from warmd.cli.calls import (
    INPUT_HELP,
    env_option,
    from_here,
    function_option,
    hints,
    input_argument,
    setup_option,
    starting,
)
from warmd.cli.completion import complete_apps
from warmd.cli.described import command_line, describe, function_of
from warmd.cli.examples import Unmade, made
from warmd.cli.exits import APP_FAILED, report
from warmd.cli.link import host
from warmd.cli.outcome import Made, Trial, page
from warmd.cli.talk import Progress, canvas, data, json_object, json_option
from warmd.cli.values import parse_input
from warmd.protocol.errors import WarmdError

if TYPE_CHECKING:
    from warmd.client import Client

LABELS = ("cold", "warm 1", "warm 2")
TIMEOUT = "10m"
NOT_AS_IT_IS = "only Python clients get it as it is (docs/http.md, Outputs, has what others get)"
UNLOAD_RAISED = b"unload raised"
"""What a worker writes to its session's log."""


@click.command(epilog=INPUT_HELP)
@click.argument("app", metavar="DIR", shell_complete=complete_apps)
@input_argument
@function_option
@setup_option
@env_option
@click.option(
    "--timeout", default=TIMEOUT, metavar="DURATION", help=f"Give a call up after this time.  [{TIMEOUT}]"
)
@json_option
def test(
    app: str,
    words: tuple[str, ...],
    function: str | None,
    setup: str | None,
    env: tuple[str, ...],
    timeout: str,
    as_json: bool,
) -> int:
    """Try an app: one cold call and two warm ones, in a daemon of its own.

    DIR is the app's folder, or a file, module:Class or name. Without INPUT one is made of what the
    function's schema has defaults or examples for. Tells what was found on the way; exit code 0 if
    nothing is bad. Ends all that it started.
    """
    if host() is not None:
        raise click.UsageError("an app is tried in a daemon of its own: leave out --host")
    options = {"app": named(app), "function": function, "timeout": timeout, **starting(setup, env)}
    trial = Trial(options["app"], function, parse_input(words))
    try:
        with hints(app), Progress() as tell:
            _try(trial, options, bool(words), tell)
    except WarmdError as error:
        trial.failed(error)
    if as_json:
        json_object(**trial.as_object())
    else:
        data(page(trial, canvas()[0]))
    if trial.error is not None:
        return report(trial.error)
    return APP_FAILED if trial.bad else 0


def named(word: str) -> str:
    """The app that is meant: a folder or file of the working directory before a registered name."""
    return word if os.sep in word or not os.path.exists(word) else os.path.join(os.curdir, word)


def _try(trial: Trial, options: dict[str, Any], has_input: bool, tell: Callable[..., None]) -> None:
    import warmd

    description: dict[str, Any] | None = None
    if not has_input:
        with trial.step("schema"), warmd.local() as client:
            tell("looking at the app", 1, 1)
            description = describe(client, options["app"])
        trial.input = _input(description, options)
    with warmd.local() as client:
        _call_all(client, trial, {**options, "input": trial.input}, tell)
        _look(client, trial)
        if description is None:
            with trial.step("schema", goes_on=True):
                description = describe(client, options["app"])
    if description is not None:
        _tell_functions(trial, description)


def _input(description: dict[str, Any], options: dict[str, Any]) -> Any:
    """An input for the function that is called.  Raises click.UsageError where the user must give one."""
    function = function_of(description, options["function"])
    try:
        return made(function.get("input_schema"))
    except Unmade as error:
        lacking = ", ".join(name or "the input itself" for name in error.names)
        line = command_line(options["app"], function, description).removeprefix("warmd run ")
        raise click.UsageError(
            f"{function['name']} needs an INPUT: its schema has no default and no example for {lacking}; "
            f"give one: warmd app test {line.removesuffix(' --stream')}"
        ) from None


def _call_all(client: Client, trial: Trial, options: dict[str, Any], tell: Callable[..., None]) -> None:
    for number, label in enumerate(LABELS, 1):
        tell(f"{label}, call", number, len(LABELS))
        with trial.step(label):
            trial.calls.append(_called(client, trial, label, options))
        options = {name: options[name] for name in ("function", "input", "timeout")}


def _called(client: Client, trial: Trial, label: str, options: dict[str, Any]) -> Made:
    """One call, the first of which opens the session; made as a stream, to see when the first part comes."""
    call, asked, first = Made(label), time.monotonic(), None
    with from_here(client, client.stream, {**options, "session": trial.session or "new"}) as stream:
        try:
            for part in stream:
                first = first or time.monotonic()
                call.take(part)
        finally:
            trial.session = stream.session_id
        call.timing = dict(stream.timing or {})
    call.first_seconds = (first or time.monotonic()) - asked
    return call


def _look(client: Client, trial: Trial) -> None:
    """How the session came, what its outputs are, and how it goes."""
    assert trial.session is not None
    info = client.sessions.get(trial.session)
    trial.found("ok", "app", info["app"])
    _, is_spawned, reason = info["origin"].partition("spawn")
    if is_spawned:
        why = f": {reason[2:-1]}" if reason else ""
        trial.found("warn", "start", f"each session imports the app anew, for it cannot be forked{why}")
    else:
        trial.found("ok", "start", "the session is a fork of a process that has imported the app")
    trial.found("ok", "calls", f"{len(trial.calls)} calls of {trial.function or 'run'}, in this session")
    strange = next((call.strange for call in trial.calls if call.strange), None)
    if strange is None:
        trial.found("ok", "output", "is plain JSON")
    else:
        trial.found("warn", "output", f"{strange}, which JSON has not: {NOT_AS_IT_IS}")
    with trial.step("end"):
        _end(client, trial, trial.session)


def _end(client: Client, trial: Trial, session: str) -> None:
    asked = time.monotonic()
    ended = client.sessions.end(session)
    took = f"{(time.monotonic() - asked) * 1000:.0f} ms"
    log = b""
    with contextlib.suppress(WarmdError):
        log = b"".join(client.logs(session, tail=200))
    _, raised, trace = log.rpartition(UNLOAD_RAISED)
    if ended["state"] != "ended" or ended.get("stuck"):
        trial.found("bad", "end", f"the session is {ended['state']} after {took}: {ended['reason']}")
    elif raised:
        trial.found("bad", "end", f"unload raised{trace.decode(errors='replace').rstrip()}")
    else:
        trial.found("ok", "end", f"the session ended within {took}")


def _tell_functions(trial: Trial, description: dict[str, Any]) -> None:
    names = [one["name"] + " (streams)" * bool(one.get("streams")) for one in description["functions"]]
    trial.found("ok", "schema", f"of {', '.join(names) or 'no function'}")
