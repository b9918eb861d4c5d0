"""Who is at the other end of a connection, and whether the daemon talks to them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import zmq

from warmd.daemon.remote import Remote
from warmd.daemon.unread import Reading
from warmd.protocol.errors import Problem
from warmd.protocol.messages import PROTOCOL, CallId, Failure, Hello, Welcome

_SRCFD = 2
"""Of a message: the descriptor of the connection that it came through."""
MAX_NAME = 64
_LOCAL = "localhost"
"""libzmq's host of a Unix connection; one over TCP is a number."""


@dataclass(slots=True)
class Peer:
    """One connected client."""

    pid: int
    """0 for one on another machine."""
    fd: int
    name: str
    reading: Reading
    key: str = ""
    """Over TCP: the public key that it came in with, hex."""


def introduced(
    frame: zmq.Frame, hello: Hello, welcome: Welcome, remote: Remote | None, reading: Reading
) -> Peer | str:
    """Who says hello in this frame; a text for the client when the daemon does not talk to it."""
    if hello.protocol != PROTOCOL:
        return (
            f"this daemon is warmd {welcome.version} and speaks protocol {PROTOCOL}; the client "
            f"is warmd {hello.version} and speaks protocol {hello.protocol}: install the same "
            "version on both sides"
        )
    local, fd, name = _local_process(frame), frame.get(_SRCFD), _shown(hello.client)
    if local is not None:
        user, pid = local
        if user != os.getuid():
            return f"this daemon serves user id {os.getuid()} only, the client runs as {user}"
        return Peer(pid, fd, name, reading)
    client = None if remote is None else remote.client_of(frame)
    if client is None:
        return "the daemon does not know this key: it was revoked"
    key, owner = client
    return Peer(0, fd, f"{name} of {owner}", reading, key)


def _shown(name: str) -> str:
    """A program's name as logs and listings can take it."""
    return "".join(character if character.isprintable() else "?" for character in name[:MAX_NAME])


def _local_process(frame: zmq.Frame) -> tuple[int, int] | None:
    """The user and process id at the other end of a Unix connection; None for another kind."""
    try:
        host, uid, _gid, pid = str(frame.get("Peer-Address")).split(":")
        return (int(uid), int(pid)) if host == _LOCAL else None
    except (ValueError, zmq.ZMQError):
        return None


def refusal(call: CallId, problem: Problem) -> Failure:
    """The failure that answers a call or request without a session."""
    return Failure(call, None, problem.code, problem.message, problem.ran, dict(problem.details))
