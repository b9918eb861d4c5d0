"""`why`: one line about a session or a call."""

from __future__ import annotations

from typing import Any

import click

from warmd.cli.completion import complete_sessions
from warmd.cli.exits import NO_SESSION, UNAVAILABLE
from warmd.cli.link import absence, open_client, running_daemon
from warmd.cli.talk import data, json_object, json_option


@click.command()
@click.argument("id", shell_complete=complete_sessions)
@json_option
def why(id: str, as_json: bool) -> int:
    """Say in one line what is the matter with a session or a call.

    ID is the id of a session or of a call, a beginning that fits only one, or a session's name; also
    of one that is over.  Exit code 3 when nothing is known of it, 69 when there is no daemon.
    """
    with open_client(autostart=False) as client:
        if running_daemon(client) is None:
            text = absence(client.address)
            facts: dict[str, Any] = {"id": id, "kind": None, "state": "no daemon", "text": text}
            code = UNAVAILABLE
        else:
            facts = dict(client.why(id))
            code = NO_SESSION if facts["state"] == "unknown" else 0
    if as_json:
        json_object(**facts)
    else:
        data(facts["text"])
    return code
