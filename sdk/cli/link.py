"""How commands reach the daemon: one client a command."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from warmd.cli.exits import TIMED_OUT, Refusal
from warmd.protocol import names
from warmd.protocol.errors import DaemonUnavailable
from warmd.protocol.places import TCP_SCHEME, path_of
from warmd.protocol.units import LONGEST_WAIT_SECONDS

if TYPE_CHECKING:
    from warmd.calls import Stream
    from warmd.client import Client
    from warmd.result import Info

STOP_MARGIN_SECONDS = 60.0
"""How long after the drain time a daemon may still need: `end_grace` of its sessions, and its own end."""


def host(ctx: click.Context | None = None) -> str | None:
    """The address given by --host."""
    ctx = ctx or click.get_current_context(silent=True)
    found = ctx.find_root().params.get("host") if ctx else None
    return found if isinstance(found, str) else None


def named_address(ctx: click.Context | None = None) -> str | None:
    """The address given by --host, or else by WARMD_HOST."""
    return host(ctx) or os.environ.get("WARMD_HOST") or None


@contextlib.contextmanager
def open_client(ctx: click.Context | None = None, *, autostart: bool | None = None) -> Iterator[Client]:
    """A client for one command.  Raises DaemonUnavailable."""
    from warmd.client import Client

    with Client(host(ctx), autostart=autostart) as client:
        yield client


def running_daemon(client: Client) -> Info | None:
    """The status of the daemon that runs; None when there is none.

    Raises DaemonUnavailable for one that is there and does not answer.
    """
    try:
        return client.status()
    except DaemonUnavailable:
        if _listens(client.address):
            raise
        return None


def _listens(address: str) -> bool:
    if address.startswith(TCP_SCHEME):
        return True  # why it cannot be reached is worth more than that it cannot
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(os.fspath(path_of(address))) in (0, errno.EAGAIN)


def resolve(client: Client, text: str) -> str:
    """The id of the session that the user means by an id, a unique beginning of one, or a name."""
    # What fits nothing goes to the daemon as it is, which says so.
    return text if names.is_whole(text) else names.match(text, client.sessions.list(all=True)) or text


def resolve_call(client: Client, text: str) -> str:
    """The id of the call that the user means by an id, or by a unique beginning of a detached one's."""
    if names.is_whole_call(text):
        return text
    # What fits nothing goes on as it is, and is refused as no id.
    return names.match_call(text, (info["id"] for info in client.calls.list())) or text


def session_of(stream: Stream) -> str | None:
    """The session of the call behind a stream, once the daemon has admitted that; None for the pool's.

    Raises why it was refused.
    """
    stream._link.await_admission(stream._pending)
    return stream.session_id


def cancel_stream(stream: Stream) -> None:
    """Cancel the call behind a stream, and read it to its end, which raises CallCancelled.

    `stream.close()` would only end the generator when it yields next, which may be never.
    """
    stream._link.cancel(stream._pending)
    for _ in stream:
        pass


def stop_daemon(client: Client, pid: int, drain_seconds: str | None) -> None:
    """Stop the daemon and wait until its process is gone.  Raises NotAllowed for one on another machine."""
    if client.address.startswith(TCP_SCHEME):
        client.stop(drain_seconds)  # is refused
    descriptor = os.pidfd_open(pid)
    try:
        answer = client.stop(drain_seconds)
        wait = float(answer["drain_seconds"]) + STOP_MARGIN_SECONDS
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        until = time.monotonic() + wait
        while not poll.poll(min(max(0.0, until - time.monotonic()), LONGEST_WAIT_SECONDS) * 1000):
            if time.monotonic() >= until:
                raise Refusal(f"the daemon (pid {pid}) has not stopped within {wait:g} s", TIMED_OUT)
    finally:
        os.close(descriptor)


def absence(address: str) -> str:
    """Why nothing is known of anything when no daemon runs."""
    return (
        f"no daemon runs at {address}, so there are no sessions: they end with their daemon; "
        "`warmd start` starts one, `warmd doctor` looks for what is wrong"
    )
