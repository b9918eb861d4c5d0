"""The commands about a daemon in the background: start, stop, status."""

from __future__ import annotations

from typing import Any

import click

from warmd.cli import talk
from warmd.cli.exits import UNAVAILABLE
from warmd.cli.talk import data, json_object, json_option, say, span


@click.command()
@json_option
def start(as_json: bool) -> None:
    """Start the daemon in the background, if there is none; returns when it is ready."""
    from warmd.cli.link import ask, open_client, open_client_if_any

    with open_client_if_any() as before:
        running = before is not None
    with open_client(autostart=True) as client:
        found = ask(client, "status")
    if as_json:
        json_object(started=not running, **found)
    else:
        say(
            f"warmd {'was already running' if running else 'started'}: pid {found['pid']}, {found['address']}"
        )


@click.command()
@click.option(
    "--drain", metavar="SECONDS", type=click.FloatRange(min=0), help="Time for running calls; 0: none."
)
@json_option
def stop(drain: float | None, as_json: bool) -> None:
    """Stop the daemon: running calls may finish, then all sessions end; returns when it is gone."""
    from warmd.cli.link import open_client_if_any, stop_daemon

    with open_client_if_any() as client:
        if client is None:
            _report_absence(as_json)
            return
        pid = stop_daemon(client, drain)
    if as_json:
        json_object(running=False, stopped=True, pid=pid)
    else:
        say(f"warmd stopped: pid {pid}")


def _report_absence(as_json: bool) -> None:
    if as_json:
        json_object(running=False, stopped=False)
    else:
        say("warmd was not running")


@click.command()
@json_option
def status(as_json: bool) -> int:
    """Show whether the daemon runs, and how it does; exit code 69 when there is none."""
    from warmd.cli.link import address, ask, open_client_if_any

    with open_client_if_any() as client:
        found = None if client is None else ask(client, "status")
    if found is None:
        if as_json:
            json_object(running=False, address=address())
        else:
            data(f"warmd is not running ({address()})")
        return UNAVAILABLE
    if as_json:
        json_object(running=True, **found)
    else:
        data(described(found))
    return 0


def described(found: dict[str, Any]) -> str:
    """The daemon's status for people."""
    state = "draining" if found.get("draining") else "running"
    lines = [
        f"warmd {found['version']} is {state}: pid {found['pid']}, for {span(found['uptime_seconds'])}, "
        f"{talk.size(found.get('memory'))} of memory",
        f"address:  {found['address']}",
        f"sessions: {found['sessions']} of {found['max_sessions']}",
        f"calls:    {found['running']} running, {found['queued']} waiting",
    ]
    for key, text in (
        ("log_lines_dropped", "log lines were lost"),
        ("dropped_messages", "messages were no messages"),
    ):
        if found.get(key):
            lines.append(f"warning:  {found[key]} {text}")
    return "\n".join(lines)
