"""`serve`: the daemon in the foreground, with one flag for each of its settings.

The only module of the command line that imports the daemon.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from warmd.cli.exits import BAD_CONFIG, Refusal
from warmd.daemon import config
from warmd.daemon.settings import Settings
from warmd.protocol import places

Command = Callable[..., Any]

GATEWAY_SECONDS = 20.0
"""How long the gateway's end is waited for."""
METAVARS = {"count": "N", "count or 0": "N", "duration or never": "DURATION"}


def settings_options(command: Command) -> Command:
    """Adds one option for each setting of the daemon, so that the two cannot drift apart."""
    for row in reversed(config.schema()):
        flag = "--" + row.name.replace("_", "-")
        text = f"{row.doc[0].upper()}{row.doc[1:]}.  [{row.shown or 'none'}; {row.variable}]"
        if row.kind == "switch":
            option = click.option(f"{flag}/--no-{flag[2:]}", row.name, default=None, help=text)
        elif row.kind == "level":
            option = click.option(flag, row.name, type=click.Choice(config.LOG_LEVELS), help=text)
        else:
            option = click.option(flag, row.name, metavar=METAVARS.get(row.kind, row.kind.upper()), help=text)
        command = option(command)
    return command


def checked_settings(flags: dict[str, Any], *, here: bool, keywords: tuple[str, ...] = ()) -> Settings:
    """The settings in force, with those of the project in the working directory if `here`.

    `keywords` are NAME=VALUE words.  Raises Refusal (exit code 78).
    """
    try:
        files = config.standard_files(os.environ)
        if here:
            files = [*config.project_files(Path.cwd()), *files]
        given = dict(word.split("=", 1) for word in keywords)
        return config.load(flags, os.environ, files, given)
    except config.ConfigError as error:
        raise Refusal(str(error), BAD_CONFIG) from None


@click.command()
@settings_options
@click.option("--http", "http_listen", metavar="HOST:PORT", help="Serve HTTP there, as `warmd http` does.")
@click.option("--http-open", is_flag=True, help="With --http: let anybody in without a key; loopback alone.")
@click.option("--ready-fd", type=int, hidden=True, help="Told when the daemon is ready, or why it is not.")
@click.option("--lifeline-fd", type=int, hidden=True, help="The daemon stops at its end of file.")
@click.option("--setting", "keywords", multiple=True, hidden=True, help="NAME=VALUE, of `warmd.local`.")
@click.option("--private", is_flag=True, hidden=True, help="The run directory goes when the daemon goes.")
def serve(
    http_listen: str | None,
    http_open: bool,
    ready_fd: int | None,
    lifeline_fd: int | None,
    keywords: tuple[str, ...],
    private: bool,
    **flags: Any,
) -> int:
    """Run the daemon in the foreground.

    Each setting can also come from the environment, from `warmd.toml` or `[tool.warmd]` of
    `pyproject.toml` here, from ~/.config/warmd/config.toml or from /etc/warmd/config.toml; the first
    of them wins, and flags over all.  Durations are seconds or texts such as 90s, 5m, 1h30m; sizes
    are bytes or texts such as 256MiB.

    SIGTERM or Ctrl-C lets running calls finish and ends the sessions; a second one ends them now.
    """
    try:
        # A client starts the daemon just anywhere; a person typed it here.
        settings = checked_settings(flags, here=ready_fd is None, keywords=keywords)
    except Refusal as error:
        if ready_fd is not None:
            os.write(ready_fd, error.message.encode())
        raise
    from warmd.daemon.main import serve as run_daemon

    with _gateway_beside(settings, http_listen, http_open):
        return run_daemon(settings, ready_fd, lifeline_fd, private)


@contextlib.contextmanager
def _gateway_beside(settings: Settings, listen: str | None, http_open: bool) -> Iterator[None]:
    """A gateway as a process of its own, which ends with this one, however that ends."""
    if listen is None:
        if http_open:
            raise click.UsageError("--http-open says who may ask the gateway: give --http HOST:PORT too")
        yield
        return
    from warmd.cli.http import check_gateway

    check_gateway(listen, http_open, settings.run_path)
    lifeline, end = os.pipe()
    # fmt: off
    command = [
        sys.executable, "-m", "warmd", "--host", places.address_of(places.socket_path(settings.run_path)),
        "http", "--listen", listen, "--lifeline-fd", str(lifeline), *["--http-open"] * http_open,
    ]
    # fmt: on
    # In a session of its own: Ctrl-C is for the daemon, whose calls may end before the gateway goes.
    keeper = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[lifeline], start_new_session=True)
    os.close(lifeline)
    try:
        yield
    finally:
        os.close(end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(GATEWAY_SECONDS)
