"""The commands park and unpark: what sessions have on GPUs, by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from warmd.cli.choice import check_choice
from warmd.cli.completion import complete_apps, complete_sessions
from warmd.cli.link import open_client, resolve
from warmd.cli.talk import json_object, json_option, say, short, size, span
from warmd.protocol import names

if TYPE_CHECKING:
    from warmd.client import Client

Info = Mapping[str, Any]

sessions_argument = click.argument(
    "sessions", nargs=-1, metavar="SESSION...", shell_complete=complete_sessions
)
app_option = click.option(
    "--app", metavar="APP", help="All sessions of this app that can be.", shell_complete=complete_apps
)
all_option = click.option("--all", "everything", is_flag=True, help="All sessions that can be.")


@click.command()
@sessions_argument
@app_option
@all_option
@json_option
def park(sessions: tuple[str, ...], app: str | None, everything: bool, as_json: bool) -> None:
    """Move what sessions have on GPUs to host memory, and make room there.

    Returns when it is there.  The next call of a session brings its memory back.  With --app or --all
    those that run something, or are never parked, are left as they are.
    """
    with open_client(autostart=False) as client:
        ids = _chosen(client, sessions, app, everything, _may_be_parked)
        parked = [client.sessions.park(id) for id in ids]
    _tell(parked, as_json)


@click.command()
@sessions_argument
@app_option
@all_option
@json_option
def unpark(sessions: tuple[str, ...], app: str | None, everything: bool, as_json: bool) -> None:
    """Bring back to the GPUs what sessions have in host memory, before a call does.

    Returns when it is there.  Others may have to be parked for it.
    """
    with open_client(autostart=False) as client:
        ids = _chosen(client, sessions, app, everything, lambda info: info["state"] == "parked")
        back = [client.sessions.unpark(id) for id in ids]
    _tell(back, as_json)


def _may_be_parked(info: Info) -> bool:
    gpu = info.get("gpu")
    return info["state"] == "idle" and gpu is not None and bool(gpu["reserved"]) and not gpu["kept"]


def _chosen(
    client: Client, sessions: tuple[str, ...], app: str | None, everything: bool, fits: Callable[[Info], bool]
) -> list[str]:
    check_choice(sessions, app, everything)
    if sessions:
        return names.unique(resolve(client, session) for session in sessions)
    listed = [info for info in client.sessions.list() if info["kind"] == "session" and fits(info)]
    return [info["id"] for info in listed if app in (None, info["app"])]


def _tell(infos: list[Any], as_json: bool) -> None:
    if as_json:
        json_object(sessions=infos)
        return
    for info in infos:
        say(f"session {short(info['id'])} {_how(info)}")
    if not infos:
        say("no sessions")


def _how(info: Info) -> str:
    gpu = info.get("gpu")
    if gpu is None:
        return f"has nothing on GPUs: {info['state']}"
    if info["state"] == "parked":
        return f"is parked: {size(gpu['parked'])} in host memory, in {span(gpu['park_seconds'])}"
    return f"is not parked: {info['state']}, {size(gpu['reserved'])} reserved"
