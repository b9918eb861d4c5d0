"""`app`: the commands for apps of one's own."""

from __future__ import annotations

import click

from warmd.cli.scaffold import new
from warmd.cli.trial import test


@click.group()
def app() -> None:
    """Make an app of your own, and try it out."""


app.add_command(new)
app.add_command(test)
