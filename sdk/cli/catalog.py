"""`apps`, which lists them or shows one, and `version`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from warmd import __version__
from warmd.cli.calls import app_argument, hints
from warmd.cli.talk import data, json_object, json_option, say, table

if TYPE_CHECKING:
    from warmd.client import Client

class _Apps(click.Group):
    """Knows that the name of an app is meant where there is no such command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in self.commands or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise click.UsageError(
            f"no such command {name!r}; `warmd apps inspect {shlex.quote(name)}` shows an app", ctx
        )


@click.group(cls=_Apps, invoke_without_command=True)
@json_option
@click.pass_context
def apps(ctx: click.Context, as_json: bool) -> None:
    """List the apps that the daemon finds by name.

    Registered apps come from installed packages (entry point group `warmd.apps`), others from the
    folders of WARMD_APPS and of the daemon's configuration.  Folders and `module:Class` need no
    registration.
    """
    if ctx.invoked_subcommand is not None:
        return
    from warmd.cli.link import open_client

    with open_client() as client:
        found = client.apps()
    if as_json:
        json_object(apps=found)
    elif found:
        rows = [[app["name"], app["source"], app["target"] or "-", app["folder"] or "-"] for app in found]
        data(table(["NAME", "SOURCE", "TARGET", "FOLDER"], rows))
    else:
        say("no apps are registered; any `module:Class` or folder can be run")


@apps.command()
@app_argument
@json_option
@click.pass_context
def inspect(ctx: click.Context, app: str, as_json: bool) -> None:
    """Show an app: its functions, their inputs, where it was found.

    APP is a name (see `warmd apps`), a folder, or module:Class. Its module is imported for this, in a
    process of its own; its `setup` is not run. --json gives the schemas whole.
    """
    from warmd.cli.described import describe, found_of, page
    from warmd.cli.link import open_client

    with open_client() as client, hints(app):
        description = describe(client, app)
        registered = _registered(client, app)
    if as_json or (ctx.parent is not None and ctx.parent.params.get("as_json")):
        json_object(**{**description, "found": {**registered, **found_of(description)}})
    else:
        data(page(description, registered))


def _registered(client: Client, app: str) -> dict[str, Any]:
    """Who has registered an app that has a name."""
    known: dict[str, Any] = next((dict(one) for one in client.apps() if one["name"] == app), {})
    return {key: known[key] for key in ("source", "folder") if known.get(key)}


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        json_object(version=__version__)
    else:
        data(__version__)
