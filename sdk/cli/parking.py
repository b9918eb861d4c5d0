"""The commands park and unpark: what sessions have on GPUs, by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from warmd.cli import gpus
from warmd.cli.choice import check_choice
from warmd.cli.completion import complete_apps, complete_sessions
from warmd.cli.link import open_client, resolve
from warmd.cli.talk import json_object, json_option, say, short, size, span
from warmd.protocol import names

if TYPE_CHECKING:
    from warmd.client import Client

Info = Mapping[str, Any]
AWAY = ("parking", "parked", "unparking")
MOST_IDS = 5

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
    check_choice(sessions, app, everything)
    with open_client(autostart=False) as client:
        before = client.sessions.list()
        ids = _chosen(client, sessions, app, before, why_not_parked)
        parked = [client.sessions.park(id) for id in ids]
    if as_json:
        json_object(sessions=parked)
    elif parked:
        _tell(parked, [_how_parked(info) for info in parked])
    else:
        tell_why_none(before, app, why_not_parked)


@click.command()
@sessions_argument
@app_option
@all_option
@json_option
def unpark(sessions: tuple[str, ...], app: str | None, everything: bool, as_json: bool) -> None:
    """Bring back to the GPUs what sessions have in host memory, before a call does.

    Returns when it is there.  Others may have to be parked for it.
    """
    check_choice(sessions, app, everything)
    with open_client(autostart=False) as client:
        before = client.sessions.list()
        ids = _chosen(client, sessions, app, before, why_not_unparked)
        back = [client.sessions.unpark(id) for id in ids]
        if len(back) > 1:
            now = {info["id"]: info for info in client.sessions.list()}
            back = [now.get(info["id"], info) for info in back]
        known = client.status().get("gpus") or []
    if as_json:
        json_object(sessions=back)
    elif back:
        were = {info["id"]: info for info in before}
        _tell(back, [_how_back(were.get(info["id"]), info, known) for info in back])
    else:
        tell_why_none(before, app, why_not_unparked)


def why_not_parked(info: Info) -> str:
    """Why --app and --all leave a session as it is, in the words that follow its id; empty where they
    park it."""
    gpu = info.get("gpu")
    if info["state"] in ("parking", "parked"):
        return f"{info['state']} already"
    if gpu is None or not gpu["reserved"]:
        return "without GPU memory, as far as is known"
    if gpu["kept"]:
        return f"never parked: {gpu['kept']}"
    return "" if info["state"] == "idle" else f"{info['state']}, and only who is idle is parked"


def why_not_unparked(info: Info) -> str:
    return "" if info["state"] == "parked" else "not parked"


def _chosen(
    client: Client,
    sessions: tuple[str, ...],
    app: str | None,
    listed: Sequence[Info],
    why_not: Callable[[Info], str],
) -> list[str]:
    if sessions:
        return names.unique(resolve(client, session) for session in sessions)
    return [info["id"] for info in _sessions(listed, app) if not why_not(info)]


def _sessions(listed: Sequence[Info], app: str | None) -> list[Info]:
    return [info for info in listed if info["kind"] == "session" and app in (None, info["app"])]


def tell_why_none(listed: Sequence[Info], app: str | None, why_not: Callable[[Info], str]) -> None:
    """A line for each reason."""
    of: dict[str, list[str]] = {}
    for info in _sessions(listed, app):
        of.setdefault(why_not(info), []).append(short(info["id"]))
    for reason, ids in of.items():
        more = f" and {len(ids) - MOST_IDS} more" if len(ids) > MOST_IDS else ""
        who = f"session {ids[0]} is" if len(ids) == 1 else f"sessions {', '.join(ids[:MOST_IDS])}{more} are"
        say(f"{who} {reason}")
    if not of:
        say("no sessions" if app is None else f"no session of app {app}")
    if any(info["kind"] == "pool" and info.get("gpu") and app in (None, info["app"]) for info in listed):
        say("workers of the shared pool are no sessions: they make room when others need it")


def _tell(infos: Sequence[Info], how: Sequence[str]) -> None:
    for info, text in zip(infos, how, strict=True):
        say(f"session {short(info['id'])} {text}")


def _how_parked(info: Info) -> str:
    gpu = info["gpu"]
    if info["state"] != "parked":
        return f"was parked, and is {info['state']} again"
    return f"is parked: {size(gpu['parked'])} in host memory, in {span(gpu['park_seconds'])}"


def _how_back(before: Info | None, info: Info, known: Sequence[gpus.Gpu]) -> str:
    """`info` is from after all have come back, of which the last may have taken the place of the first."""
    gpu = info.get("gpu")
    if info["state"] in ("parking", "parked"):
        return f"is {info['state']} again, to make room for others"
    if gpu is None:
        return f"has nothing on GPUs: {info['state']}"
    if before is None or before["state"] not in AWAY:
        return f"was not parked: {info['state']}, {size(gpu['reserved'])} reserved"
    # Nobody may have looked at the GPUs since: what was in host memory is what has come back.
    bytes = before["gpu"]["parked"] or gpu["reserved"]
    return f"is back: {size(bytes)} on {gpus.places(gpu, known)}, in {span(gpu['unpark_seconds'])}"
