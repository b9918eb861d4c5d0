"""`run` and `call`: one call to an app, its result as JSON on stdout."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from warmd.cli.completion import complete_apps, complete_sessions
from warmd.cli.link import cancel_stream, open_client, resolve, session_of
from warmd.cli.live import Live, live
from warmd.cli.talk import data, json_object, json_option, json_result, say, timing_line
from warmd.cli.values import parse_input, parse_json, parse_pairs, to_json, to_plain
from warmd.protocol.errors import AppNotFound, Invalid

if TYPE_CHECKING:
    from warmd.calls import Stream
    from warmd.client import Client
    from warmd.result import Result

T = TypeVar("T")

INPUT_HELP = """\
INPUT is JSON text, @file.json, - for standard input, or KEY=VALUE words; a VALUE that is
not JSON is text.  Bytes are written as {"$bytes": "<base64>"}, in results too."""

CANCELLING = "warmd: cancelling; Ctrl-C again to leave without waiting"

NO_FUNCTIONS = ("null", "true", "false", "NaN", "Infinity")
"""Words of JSON that could be names of functions."""

_OF_THE_APP = re.compile(r"^app '.*' did not start: |^the app was edited and could not be reloaded: ")
"""What is refused for the app's sake, and not for its input's."""

app_argument = click.argument("app", shell_complete=complete_apps)
input_argument = click.argument("words", nargs=-1, metavar="[INPUT]")
function_option = click.option("--function", "-f", help="The function to call.  [run]")
setup_option = click.option(
    "--setup", metavar="JSON", help="What the app's `setup` is given; JSON text or @file."
)
env_option = click.option(
    "--env", multiple=True, metavar="KEY=VALUE", help="A variable for a new session; repeatable."
)
timeout_option = click.option("--timeout", metavar="DURATION", help="Give the call up after this time.")
stream_option = click.option(
    "--stream", is_flag=True, help="Print each part as it comes, one JSON text a line."
)
logs_option = click.option(
    "--logs", "-l", is_flag=True, help="Print what the app writes meanwhile, on stderr."
)
detach_option = click.option(
    "--detach", is_flag=True, help="Leave the call to the daemon and print its id, for `warmd attach`."
)


@click.command(epilog=INPUT_HELP)
@app_argument
@input_argument
@function_option
@click.option(
    "--session",
    "-s",
    metavar="new|SESSION",
    help="Open a session, or use one; without it a worker of the shared pool runs the call.",
    shell_complete=complete_sessions,
)
@click.option("--session-timeout", metavar="DURATION", help="Idle time after which a new session ends.")
@click.option("--max-lifetime", metavar="DURATION", help="Age at which a new session expires, busy or not.")
@click.option("--name", help="Open the session of this name, or use it if there is one.")
@setup_option
@env_option
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label for a new session; repeatable.")
@timeout_option
@stream_option
@logs_option
@detach_option
@click.option("--help-app", is_flag=True, help="Print how to call the app, or FUNCTION; call nothing.")
@json_option
def run(
    app: str,
    words: tuple[str, ...],
    stream: bool,
    logs: bool,
    detach: bool,
    help_app: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Run an app and print its result as JSON.

    APP is a name (see `warmd apps`), a folder, or module:Class. Options of a new session, such as
    --name or --label, open one, as --session new does; its id is told on stderr.
    """
    if help_app:
        _print_help(app, given["function"], as_json)
        return
    options = {"app": app, "input": parse_input(words), **_options(given)}
    with open_client() as client, hints(app, in_pool=options["session"] is None):
        if options["session"] not in (None, "new"):
            options["session"] = resolve(client, options["session"])
        _perform(client, options, stream, logs, detach, as_json)


@click.command(epilog=INPUT_HELP)
@click.argument("session", shell_complete=complete_sessions)
@click.argument("words", nargs=-1, metavar="[FUNCTION] [INPUT]")
@timeout_option
@stream_option
@logs_option
@detach_option
@json_option
def call(
    session: str,
    words: tuple[str, ...],
    timeout: str | None,
    stream: bool,
    logs: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Call a session that exists and print the result as JSON.

    SESSION is an id, a unique beginning of one, or a session's name. FUNCTION is `run` unless the
    first word after SESSION is a name.
    """
    function, words = split_function(words)
    options = {"function": function, "input": parse_input(words), "timeout": timeout}
    with open_client(autostart=False) as client, hints(None):
        _perform(client, {**options, "session": resolve(client, session)}, stream, logs, detach, as_json)


def split_function(words: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The function named by the first word, if it is a name, and the words of INPUT.

    >>> split_function(("incr", "by=2")), split_function(("by=2",)), split_function(("null",))
    (('incr', ('by=2',)), (None, ('by=2',)), (None, ('null',)))
    """
    if words and words[0].isidentifier() and words[0] not in NO_FUNCTIONS:
        return words[0], words[1:]
    return None, words


def starting(setup: str | None, env: Sequence[str]) -> dict[str, Any]:
    """The client's options for what --setup and --env say about a new process."""
    return {
        "setup": None if setup is None else parse_json(setup, "--setup"),
        "env": parse_pairs(env, "--env") or None,
    }


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """The client's options for the command line's."""
    found = {
        **given,
        **starting(given["setup"], given["env"]),
        "labels": parse_pairs(given["label"], "--label") or None,
    }
    del found["label"]
    opens = any(found[option] is not None for option in ("session_timeout", "max_lifetime", "name", "labels"))
    if found["session"] is None and opens:
        found["session"] = "new"
    return found


def _perform(
    client: Client, options: dict[str, Any], stream: bool, logs: bool, detach: bool, as_json: bool
) -> None:
    if detach and (stream or logs):
        other = "--logs" if logs else "--stream"
        raise click.UsageError(
            f"--detach returns at once: `warmd attach` and `warmd logs -f` print what comes, without {other}"
        )
    if detach:
        _print_id(client, options, as_json)
        return
    with live(client, options["session"], logs, progress=not (as_json or stream)) as heard:
        over = _stream(client, options, heard, as_json) if stream else None
        result = _result(client, options, heard) if over is None else None
    if over is not None:
        print_end(over, as_json)
    elif result is not None:
        _print_result(result, as_json)


def from_here(client: Client, begin: Callable[[dict[str, Any]], T], options: dict[str, Any]) -> T:
    """Begin a call whose `module:Class` is looked for in the working directory first.

    That is where `python -m warmd` looks; the `warmd` script has its own folder in that place.
    """
    if ":" not in options.get("app", ""):
        return begin(options)
    client.status()  # connected, so that this process imports nothing more that could lie here
    sys.path.insert(0, os.getcwd())
    try:
        return begin(options)
    finally:
        del sys.path[0]


@contextlib.contextmanager
def hints(app: str | None, *, in_pool: bool = False) -> Iterator[None]:
    """Adds to an error of a call what helps: where its input is told of, or how a folder is named.

    `app` is what the user called it, or None for that of a session.
    """
    try:
        yield
    except Invalid as error:
        # Wrong options of a session are refused before there is one.
        is_of_input = not _OF_THE_APP.search(error.message)
        if is_of_input and (error.session is not None or (in_pool and error.call is not None)):
            shown = "APP" if app is None else shlex.quote(app)
            error.add_note(f"`warmd run {shown} --help-app` shows what it takes")
        raise
    except AppNotFound as error:
        if app is not None and os.path.isdir(app) and os.sep not in app:
            error.add_note(f"the folder {app} in this directory is called ./{app}")
        raise


def _print_help(app: str, function: str | None, as_json: bool) -> None:
    from warmd.cli.described import describe, function_of, how_to_call

    with open_client() as client, hints(app):
        description = describe(client, app)
    if not as_json:
        data(how_to_call(description, app, function))
    elif function is None:
        json_object(**description)
    else:
        json_object(app=description["app"], **function_of(description, function))


def _result(client: Client, options: dict[str, Any], heard: Live) -> Result:
    call = None
    try:
        call = from_here(client, client.submit, options)
        heard.begun(call.call_id, options["session"] in (None, "new"), lambda: call.session_id)
        return call.result()
    except KeyboardInterrupt:
        say(CANCELLING)
        if call is None:
            raise  # in the midst of sending: the client has taken it back itself
        call.cancel()
        return call.result()


def _print_result(result: Result, as_json: bool) -> None:
    if as_json:
        json_object(session=result.session_id, output=to_plain(result.output), timing=dict(result.timing))
    else:
        json_result(result.output)
        say(timing_line(result.session_id, result.timing))


def _print_id(client: Client, options: dict[str, Any], as_json: bool) -> None:
    call = from_here(client, client.submit, {**options, "detach": True})
    if as_json:
        json_object(call=call.call_id, session=call.session_id)
    else:
        data(call.call_id)
        say(timing_line(call.session_id, None))


def _stream(client: Client, options: dict[str, Any], heard: Live, as_json: bool) -> Stream:
    """The stream at its end, its parts printed."""
    with from_here(client, client.stream, options) as stream:
        try:
            heard.begun(stream.call_id, options["session"] in (None, "new"), lambda: session_of(stream))
            print_parts(stream, as_json)
        except KeyboardInterrupt:
            say(CANCELLING)
            cancel_stream(stream)
    return stream


def print_parts(stream: Stream, as_json: bool, first: int = 0) -> None:
    """Print each part as it comes, numbered from `first` on.  Raises the error that the call ends with."""
    for number, part in enumerate(stream, first):
        if as_json:
            json_object(part=number, value=to_plain(part))
        else:
            data(to_json(part))
        sys.stdout.flush()


def print_end(stream: Stream, as_json: bool) -> None:
    """A line about the call of a stream that is over."""
    if as_json:
        json_object(session=stream.session_id, timing=dict(stream.timing or {}))
    else:
        say(timing_line(stream.session_id, stream.timing))
