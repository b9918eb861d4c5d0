"""`keys`: who may connect to this daemon over TCP."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from warmd.cli.exits import BAD_CONFIG, UNAVAILABLE, Refusal
from warmd.cli.link import named_address, open_client, running_daemon
from warmd.cli.talk import data, date, json_object, json_option, say, table
from warmd.protocol import places
from warmd.protocol.errors import DaemonUnavailable, told
from warmd.protocol.keys import KeyFolder


@click.group()
def keys() -> None:
    """Say who may connect to this daemon over TCP, where the setting `listen` lets it (see `warmd serve`).

    Each client has a key of its own. It may use the daemon's apps, sessions and logs; it may not
    bring code, set variables or stop the daemon.
    """


@keys.command()
@click.argument("name")
@json_option
def new(name: str, as_json: bool) -> None:
    """Make a key for a client and print it, this once.

    The client gives it as WARMD_KEY, with the daemon's address as WARMD_HOST or --host.
    """
    with _kept_keys() as folder:
        text = folder.add(name).text
    _tell_daemon()
    if as_json:
        json_object(name=name, key=text)
    else:
        data(text)
        say(f"warmd: whoever has this key is let in as {name!r}; it is stored nowhere here, so keep it")


@keys.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """List the clients that have a key."""
    with _kept_keys() as folder:
        found: list[dict[str, Any]] = [
            {"name": name, "public_key": public.hex(), "created": folder.created(name)}
            for public, name in folder.clients().items()
        ]
    if as_json:
        json_object(keys=found)
    elif found:
        data(table(["NAME", "CREATED"], [[key["name"], date(key["created"])] for key in found]))
    else:
        say("no keys")


@keys.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_option
def revoke(names: tuple[str, ...], as_json: bool) -> None:
    """Let clients in no more, and end the connections that they have."""
    try:
        with _kept_keys() as folder:
            for name in names:
                folder.remove(name)
    finally:
        ended = _tell_daemon()
    if as_json:
        json_object(revoked=names, connections_ended=ended)
    else:
        what = "no daemon runs" if ended is None else f"connections ended: {ended}"
        say(f"warmd: revoked {', '.join(names)}; {what}")


@contextlib.contextmanager
def _kept_keys() -> Iterator[KeyFolder]:
    """The folder of the keys; what is wrong with it, or with a name, is said in a sentence."""
    folder = KeyFolder(places.keys_dir(_run_dir()))
    try:
        yield folder
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        text = f"keys cannot be kept in {folder.path}: {told(error)}; `warmd doctor` says more"
        raise Refusal(text, BAD_CONFIG) from None


def _run_dir() -> Path:
    given = named_address()
    if not given:
        return places.default_run_dir()
    try:
        return places.path_of(given).parent
    except ValueError:
        raise click.UsageError(
            f"keys are managed on the daemon's own machine; {given!r} is no socket there"
        ) from None


def _tell_daemon() -> int | None:
    """Have the running daemon take notice; how many connections that ended, None where none runs.

    Raises Refusal when a daemon runs and does not: then it still goes by the old keys.
    """
    try:
        with open_client(autostart=False) as client:
            if running_daemon(client) is None:
                return None
            return int(client.reload_keys()["connections_ended"])
    except DaemonUnavailable as error:
        text = f"the keys are changed, but the daemon still goes by the old ones: {error.message}"
        raise Refusal(text, UNAVAILABLE) from None
