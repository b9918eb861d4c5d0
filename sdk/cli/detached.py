"""The commands about detached calls: attach, calls, cancel."""

from __future__ import annotations

from typing import Any

import click

from warmd.cli.calls import print_end, print_parts
from warmd.cli.completion import complete_calls
from warmd.cli.link import open_client, resolve_call
from warmd.cli.talk import data, json_object, json_option, say, span, table
from warmd.protocol import names


@click.command()
@click.argument("call", shell_complete=complete_calls)
@click.option(
    "--offset",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Begin with part N; the first is 0.",
)
@json_option
def attach(call: str, offset: int, as_json: bool) -> None:
    """Print what a detached call yields, as it comes, and end as it ends.

    CALL is the id that --detach printed, or a unique beginning of it. Ctrl-C only stops the
    reading; `warmd cancel` ends the call.
    """
    with (
        open_client(autostart=False) as client,
        client.calls.attach(resolve_call(client, call), offset) as stream,
    ):
        try:
            print_parts(stream, as_json, offset)
            print_end(stream, as_json)
        except KeyboardInterrupt:
            say("warmd: detached; the call goes on")
            raise


@click.command()
@json_option
def calls(as_json: bool) -> None:
    """List the detached calls that are under way, or have ended and are still kept."""
    with open_client(autostart=False) as client:
        found = client.calls.list()
    if as_json:
        json_object(calls=found)
    elif found:
        data(table(["ID", "FUNCTION", "STATE", "PARTS", "SESSION"], [_row(info) for info in found]))
    else:
        say("no detached calls")


def _row(info: dict[str, Any]) -> list[str]:
    ended = f" {info['code'] or 'ok'}" if info["state"] == "done" else ""
    state = f"{info['state']}{ended} {span(info['seconds'])}"
    return [info["id"], info["function"], state, str(info["parts"]), info["session"] or "(pool)"]


@click.command()
@click.argument("calls", nargs=-1, required=True, metavar="CALL...", shell_complete=complete_calls)
@json_option
def cancel(calls: tuple[str, ...], as_json: bool) -> None:
    """Cancel calls by their ids.

    CALL is a call's id, or a unique beginning of a detached one's.

    Prints the ids of those that were under way; one that has ended already is no error.
    """
    with open_client(autostart=False) as client:
        ids = names.unique(resolve_call(client, call) for call in calls)
        cancelled = [id for id in ids if client.calls.cancel(id)]
    if as_json:
        json_object(cancelled=cancelled)
        return
    for call in cancelled:
        data(call)
