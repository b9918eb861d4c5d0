"""`apps` and `version`."""

from __future__ import annotations

import click

from warmd import __version__
from warmd.cli.talk import data, json_object, json_option, say, table


@click.command()
@json_option
def apps(as_json: bool) -> None:
    """List the apps that the daemon finds by name.

    Registered apps come from installed packages (entry point group `warmd.apps`), others from the
    folders of WARMD_APPS and of the daemon's configuration.  Folders and `module:Class` need no
    registration.
    """
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


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        json_object(version=__version__)
    else:
        data(__version__)
