"""The commands about sessions that exist: ps, inspect, logs, keepalive, end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from warmd.cli import gpus, talk
from warmd.cli.choice import check_choice
from warmd.cli.completion import complete_apps, complete_sessions
from warmd.cli.link import open_client, resolve
from warmd.cli.talk import data, json_object, json_option, say, short, span, table
from warmd.cli.values import parse_pairs
from warmd.protocol import names

if TYPE_CHECKING:
    from warmd.session import Running

MAX_REASON = 60
"""Characters of why a session is gone; `inspect` shows all."""

INDENT = 18
"""Where `inspect` writes values, beyond the longest key."""

session_argument = click.argument("session", shell_complete=complete_sessions)


@click.command()
@click.option("--all", "-a", "show_all", is_flag=True, help="Those that are gone too, with the reason.")
@click.option("--app", metavar="APP", help="Only sessions of this app.", shell_complete=complete_apps)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only those with this label.")
@click.option("--quiet", "-q", is_flag=True, help="Only the ids, whole: for other commands.")
@click.option("--no-trunc", is_flag=True, help="Whole ids and apps.")
@json_option
def ps(
    show_all: bool, app: str | None, labels: tuple[str, ...], quiet: bool, no_trunc: bool, as_json: bool
) -> None:
    """List the sessions, and the workers of the shared pool."""
    wanted = parse_pairs(labels, "--label")
    with open_client(autostart=False) as client:
        found = client.sessions.list(all=show_all)
    found = [
        info for info in found if app in (None, info["app"]) and wanted.items() <= info["labels"].items()
    ]
    if as_json:
        json_object(sessions=found)
    elif quiet:
        for info in found:
            if info["kind"] == "session":
                data(info["id"])
    elif found:
        data(listing(found, time.time(), whole_ids=no_trunc))
    else:
        say("no sessions")


def listing(found: Sequence[Mapping[str, Any]], now: float, *, whole_ids: bool = False) -> str:
    """The sessions as a table; `now` is the wall clock, which their times are told by."""
    rows = []
    any_gpu = any(info.get("gpu") for info in found)
    for info in found:
        named = info["name"] or ("(pool)" if info["kind"] == "pool" else "-")
        shown = info["id"] if whole_ids else short(info["id"])
        app = info["app"] if whole_ids else talk.ending(info["app"])
        reason = (info["reason"] or "").partition("\n")[0][:MAX_REASON]
        rows.append([shown, app, named, state(info), str(info["calls"]), str(info["queued"]),
                     span(now - info["created"]), span(info["expires_in"]), str(info["pid"] or "-"),
                     talk.size(info["memory"]), *[gpus.cell(info.get("gpu"))] * any_gpu, reason])  # fmt: skip
    reasons = ["REASON"] if any(info["reason"] for info in found) else [""]
    heads = ["ID", "APP", "NAME", "STATE", "CALLS", "QUEUED", "AGE", "EXPIRES", "PID", "MEMORY"]
    return table([*heads, *["GPU"] * any_gpu, *reasons], rows)


def state(info: Mapping[str, Any]) -> str:
    """What it does, and for how long it has run something."""
    running = info.get("running_seconds")
    if info["kind"] == "spare" and info["state"] == "idle":
        return "spare"
    return f"{info['state']} {span(running)}" if running is not None else str(info["state"])


@click.command()
@session_argument
@json_option
def inspect(session: str, as_json: bool) -> None:
    """Show all that is known of one session.

    SESSION is an id, a unique beginning of one, or a session's name; also of one that is gone.
    """
    with open_client(autostart=False) as client:
        info = client.sessions.get(resolve(client, session))
        known = client.status().get("gpus") or [] if info.get("gpu") and not as_json else []
    if as_json:
        json_object(**info)
    else:
        data("\n".join(f"{key + ':':{INDENT}}{_shown(key, value, known)}" for key, value in info.items()))


def _shown(key: str, value: Any, known: Sequence[gpus.Gpu] = ()) -> str:
    if value is None:
        return "never" if key == "idle_timeout" else "-"
    if key in ("created", "last_call"):
        return (
            f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(value))} ({span(time.time() - value)} ago)"
        )
    if key in ("idle_timeout", "expires_in", "held_for", "lives_for", "running_seconds"):
        return span(value)
    if key == "memory":
        return talk.size(value)
    if key == "gpu":
        return f"\n{'':{INDENT}}".join(gpus.facts(value, known)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "-"
    return str(value)


@click.command()
@session_argument
@click.option("--follow", "-f", is_flag=True, help="Go on until the session ends.")
@click.option("--tail", "-n", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@json_option
def logs(session: str, follow: bool, tail: int | None, as_json: bool) -> None:
    """Print what a session's app wrote to stdout and stderr; also of one that is gone."""
    with open_client(autostart=False) as client:
        chunks = client.logs(resolve(client, session), tail=tail, follow=follow)
        if as_json:
            for line in lines_of(chunks):
                json_object(line=line.decode("utf-8", "replace"))
                sys.stdout.flush()
        else:
            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The whole lines of a text that comes in pieces; a last one without its end counts too."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


@click.command()
@session_argument
@json_option
def keepalive(session: str, as_json: bool) -> None:
    """Start a session's idle time anew."""
    with open_client(autostart=False) as client:
        info = client.sessions.keepalive(resolve(client, session))
    if as_json:
        json_object(**info)
    else:
        left = info["expires_in"]
        say(
            f"session {short(info['id'])} "
            + ("does not expire now" if left is None else f"expires in {span(left)}")
        )


@click.command()
@session_argument
@click.argument("duration", required=False)
@click.option("--release", is_flag=True, help="End a hold instead.")
@json_option
def hold(session: str, duration: str | None, release: bool, as_json: bool) -> None:
    """Keep a session from expiring by idling for DURATION (such as 10m) from now."""
    if release == (duration is not None):
        raise click.UsageError("give either a DURATION, such as 10m, or --release")
    with open_client(autostart=False) as client:
        id = resolve(client, session)
        info = client.sessions.release(id) if duration is None else client.sessions.hold(id, duration)
    if as_json:
        json_object(**info)
    else:
        held = info["held_for"]
        say(f"session {short(info['id'])} is " + ("not held" if held is None else f"held for {span(held)}"))


@click.command()
@click.argument("sessions", nargs=-1, metavar="SESSION...", shell_complete=complete_sessions)
@click.option(
    "--app", metavar="APP", help="All sessions and pool workers of this app.", shell_complete=complete_apps
)
@click.option("--all", "everything", is_flag=True, help="All sessions and pool workers.")
@click.option("--finish", is_flag=True, help="Let the running call finish; by default it is cancelled.")
@json_option
def end(sessions: tuple[str, ...], app: str | None, everything: bool, finish: bool, as_json: bool) -> None:
    """End sessions, with all their processes.

    Returns when the processes are gone.  Prints the ids of the sessions that were ended.  --app and
    --all end workers of the shared pool too, which are no sessions, and so not printed.
    """
    check_choice(sessions, app, everything)
    running: Running = "finish" if finish else "cancel"
    with open_client(autostart=False) as client:
        if everything:
            ended = client.sessions.end(all=True, running=running)
        elif app is not None:
            ended = client.sessions.end(app=app, running=running)
        else:
            ids = names.unique(resolve(client, session) for session in sessions)
            ended = [client.sessions.end(one, running=running) for one in ids]
    if as_json:
        json_object(sessions=ended)
        return
    for info in ended:
        data(info["id"])
    if not ended:
        say("no sessions")
