"""Which sessions a command is for: some that are named, those of an app, or all."""

from __future__ import annotations

import click


def check_choice(sessions: tuple[str, ...], app: str | None, everything: bool) -> None:
    """Raises click.UsageError unless exactly one of them is given."""
    given = bool(sessions) + (app is not None) + everything
    if not given:
        raise click.UsageError("say which: SESSION..., --app APP or --all")
    if given > 1:
        raise click.UsageError("give one of SESSION..., --app APP and --all, not several")
