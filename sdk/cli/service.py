"""The commands about a daemon in the background: start, stop, status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from warmd.cli import gpus, talk
from warmd.cli.exits import UNAVAILABLE
from warmd.cli.talk import data, json_object, json_option, say, span


@click.command()
@json_option
def start(as_json: bool) -> None:
    """Start the daemon in the background, if there is none; returns when it is ready."""
    from warmd.cli.link import named_address, open_client, running_daemon

    with open_client(autostart=False) as client:
        before = running_daemon(client)
    if before is None:
        if elsewhere := named_address():
            raise click.UsageError(
                f"WARMD_HOST (or --host) names a daemon elsewhere, {elsewhere}, and none runs there; "
                "unset it to start your own"
            )
        from warmd.cli.serve import checked_settings

        checked_settings({}, here=False)
    with open_client(autostart=True) as client:
        found = before or client.status()
    if as_json:
        json_object(started=before is None, **found)
    else:
        verb = "started" if before is None else "was already running"
        say(f"warmd {verb}: pid {found['pid']}, {found['address']}")


@click.command()
@click.option("--drain", metavar="DURATION", help="Time that running calls get; the daemon has a default.")
@json_option
def stop(drain: str | None, as_json: bool) -> None:
    """Stop the daemon: running calls may finish, then all sessions end; returns when it is gone."""
    from warmd.cli.link import open_client, running_daemon, stop_daemon

    with open_client(autostart=False) as client:
        found = running_daemon(client)
        if found is not None:
            stop_daemon(client, found["pid"], drain)
    pid = found and found["pid"]
    if as_json:
        json_object(stopped=found is not None, pid=pid)
    else:
        say("warmd was not running" if found is None else f"warmd stopped: pid {pid}")


@click.command()
@json_option
def status(as_json: bool) -> int:
    """Show whether the daemon runs, and how it does; exit code 69 when there is none."""
    from warmd.cli.link import open_client, running_daemon

    with open_client(autostart=False) as client:
        found = running_daemon(client)
    if as_json:
        json_object(state=state(found), **(found or {"address": client.address}))
    else:
        data(f"warmd is not running ({client.address})" if found is None else described(found))
    return UNAVAILABLE if found is None else 0


def state(found: Mapping[str, Any] | None) -> str:
    """What the daemon does, in a word."""
    if found is None:
        return "absent"
    return "draining" if found.get("draining") else "running"


def _templates(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is imported and ready to be forked, if anything is."""
    names = [
        f"{one['app']} ({one['forks']} fork{'s' * (one['forks'] != 1)}, {talk.size(one['memory'])})"
        if one["state"] == "up"
        else f"{one['app']} ({one['state']})"
        for one in found
    ]
    return [f"templates: {', '.join(names)}"] if names else []


def described(found: Mapping[str, Any]) -> str:
    """The daemon's status for people."""
    lines = [
        f"warmd {found['version']} is {state(found)}: pid {found['pid']}, "
        f"for {span(found['uptime_seconds'])}, {talk.size(found.get('memory'))} of memory",
        f"address:  {found['address']}" + (f" and {found['listen']}" if found.get("listen") else ""),
        f"sessions: {found['sessions']} of {found['max_sessions']}",
        f"calls:    {found['running']} running, {found['queued']} waiting",
        *_templates(found.get("templates") or []),
        *gpus.lines(found),
    ]
    for key, text in (
        ("log_lines_dropped", "log lines were lost"),
        ("dropped_messages", "messages were no messages"),
        ("strangers_turned_away", "connections to the workers' door were nobody's worker"),
    ):
        if found.get(key):
            lines.append(f"warning:  {found[key]} {text}")
    return "\n".join(lines)
