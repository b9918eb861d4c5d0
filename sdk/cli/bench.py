"""`bench`: what a start of any app costs, beside its warm calls."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

from warmd.cli.calls import (
    INPUT_HELP,
    app_argument,
    env_option,
    function_option,
    input_argument,
    setup_option,
    starting,
    timeout_option,
)
from warmd.cli.link import host, open_client
from warmd.cli.measure import WARM_UP_CALLS, measure
from warmd.cli.talk import Progress, canvas, data, ending, json_object, json_option, say
from warmd.cli.values import parse_input

if TYPE_CHECKING:
    from warmd.cli.samples import Measured
    from warmd.client import Client
    from warmd.result import Info

MOST_COLD, MOST_WARM, MOST_UNDER_WAY = 1000, 1_000_000, 100_000


@click.command(epilog=INPUT_HELP)
@app_argument
@input_argument
@function_option
@click.option(
    "--cold", type=click.IntRange(1, MOST_COLD), default=5, metavar="N", help="How many new sessions.  [5]"
)
@click.option(
    "--warm", type=click.IntRange(1, MOST_WARM), default=200, metavar="N", help="How many warm calls.  [200]"
)
@click.option(
    "--concurrency",
    type=click.IntRange(2, MOST_UNDER_WAY),
    metavar="K",
    help="Then as many warm calls again, with K of them under way.",
)
@setup_option
@env_option
@timeout_option
@click.option("--local", is_flag=True, help="Use a daemon of its own, which ends with the command.")
@click.option("--plot", type=click.Path(), metavar="FILE", help="Draw it too: out.png, .svg, .pdf.")
@json_option
def bench(
    app: str,
    words: tuple[str, ...],
    function: str | None,
    cold: int,
    warm: int,
    concurrency: int | None,
    setup: str | None,
    env: tuple[str, ...],
    timeout: str | None,
    local: bool,
    plot: str | None,
    as_json: bool,
) -> None:
    """Measure an app: its cold starts, phase by phase, against warm calls.

    Opens new sessions one after another, each with one call, and makes the warm calls to the last of
    them, after a few that are not counted.  All calls are the same, as in `warmd run APP INPUT`.  For a
    generator it tells when the first part came.  Ends the sessions that it opened.
    """
    options = {"app": app, "function": function, "input": parse_input(words), "timeout": timeout}
    options |= starting(setup, env)
    if plot is not None:
        from warmd.cli.plot import check_plot

        check_plot(plot)
    with _daemon(local) as client:
        daemon = client.status()
        with Progress() as tell:
            measured = measure(client, options, cold=cold, warm=warm, under_way=concurrency, tell=tell)
    _show(measured, app, function or "run", daemon, as_json)
    if plot is not None:
        _plot(measured, f"{ending(app)}, {function or 'run'}", plot)


def _daemon(local: bool) -> AbstractContextManager[Client]:
    if not local:
        return open_client()
    if host() is not None:
        raise click.UsageError("--local is a daemon of its own: leave out --host")
    import warmd

    return warmd.local()


def _show(measured: Measured, app: str, function: str, daemon: Info, as_json: bool) -> None:
    if not as_json:
        from warmd.cli.report import page

        width, plain = canvas()
        data(page(measured, width, plain=plain))
        return
    from warmd.cli.machine import machine_facts
    from warmd.cli.samples import as_object

    json_object(
        app=app,
        function=function,
        warm_up_calls=WARM_UP_CALLS,
        machine=machine_facts(),
        daemon={name: daemon[name] for name in ("address", "version")},
        **as_object(measured),
    )


def _plot(measured: Measured, title: str, path: str) -> None:
    from warmd.cli.plot import draw

    draw(measured, title, path)
    say(f"drawn: {path}")
