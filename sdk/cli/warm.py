"""`warm`: sessions that are up before anybody asks for them."""

from __future__ import annotations

import click

from warmd.cli.calls import app_argument, env_option, setup_option, starting, timeout_option
from warmd.cli.link import open_client
from warmd.cli.talk import data, json_object, json_option


@click.command()
@app_argument
@click.option("--spares", type=click.IntRange(1, 1000), default=1, metavar="N", help="How many.  [1]")
@click.option(
    "--session-timeout",
    default="10m",
    metavar="DURATION",
    help="How long they wait for a call that takes them.  [10m]",
)
@setup_option
@env_option
@timeout_option
@json_option
def warm(
    app: str,
    spares: int,
    session_timeout: str,
    setup: str | None,
    env: tuple[str, ...],
    timeout: str | None,
    as_json: bool,
) -> None:
    """Have sessions of an app ready, `setup` included, before anybody asks for them.

    APP is a name (see `warmd apps`), a folder, or module:Class.  A call that opens a session with the same
    setup and environment takes one at once, and another is started in its place.
    """
    options = {"spares": spares, "session_timeout": session_timeout, "timeout": timeout}
    with open_client() as client:
        ready = client.warm(app, **options, **starting(setup, env))  # type: ignore[arg-type]
    slowest = max(result.timing.total for result in ready)
    if as_json:
        json_object(app=app, spares=[result.session_id for result in ready], seconds=slowest)
        return
    what = "a session" if spares == 1 else f"{spares} sessions"
    data(f"{what} of {app} ready after {slowest:.2f} s")
