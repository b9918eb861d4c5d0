"""How commands reach the daemon: one client a command, and the verbs that it has no method for."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from warmd.cli import names
from warmd.cli.exits import TIMED_OUT, Refusal
from warmd.protocol.errors import DaemonUnavailable

if TYPE_CHECKING:
    from warmd.client import Client

STOP_MARGIN_SECONDS = 60.0
"""How long after the drain time a daemon may still need: `end_grace` of its sessions, and its own end."""
LOG_WINDOW = 16
"""How many pieces of a log may be on their way."""


def host(ctx: click.Context | None = None) -> str | None:
    """The address given by --host."""
    ctx = ctx or click.get_current_context(silent=True)
    found = ctx.find_root().params.get("host") if ctx else None
    return found if isinstance(found, str) else None


def address() -> str:
    """Where this command looks for the daemon."""
    from warmd.connect import Connector

    return Connector(host(), None).address


@contextlib.contextmanager
def open_client(ctx: click.Context | None = None, *, autostart: bool | None = None) -> Iterator[Client]:
    """A client for one command.  Raises DaemonUnavailable."""
    from warmd.client import Client

    with Client(host(ctx), autostart=autostart) as client:
        yield client


@contextlib.contextmanager
def open_client_if_any() -> Iterator[Client | None]:
    """A client of the daemon that runs; None when there is none."""
    from warmd.client import Client

    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(Client(host(), autostart=False))
            client.connect()
        except DaemonUnavailable:
            client = None
        yield client


def ask(client: Client, verb: str, **arguments: Any) -> Any:
    """The daemon's answer to an administrative verb.  Raises WarmdError."""
    return client.request(verb, **arguments)


def resolve(client: Client, text: str) -> str:
    """The id of the session that the user means by an id, a unique beginning of one, or a name."""
    if names.is_whole(text):
        return text
    return names.match(text, ask(client, "sessions.list", all=True))


def follow_log(client: Client, session: str, tail: int | None, follow: bool) -> Iterator[bytes]:
    """The pieces of a session's log, as they come."""
    return client.follow("logs", session=session, tail=tail, follow=follow)


def stop_daemon(client: Client, drain_seconds: float | None) -> int:
    """Stop the daemon and wait until its process is gone; returns its pid."""
    pid = int(ask(client, "status")["pid"])
    descriptor = os.pidfd_open(pid)
    try:
        answer = ask(client, "stop", drain_seconds=drain_seconds)
        wait = float(answer["drain_seconds"]) + STOP_MARGIN_SECONDS
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(wait * 1000):
            raise Refusal(f"the daemon (pid {pid}) has not stopped within {wait:g} s", TIMED_OUT)
    finally:
        os.close(descriptor)
    return pid
