"""Keys for connections over TCP: what a client's key looks like, and where a daemon's user keeps them.

The pairs are CURVE's (Curve25519).  A client's key is one text, `warmd1_` and 86 characters of
base64url: the daemon's public key, by which the client knows the daemon, then the client's own
secret.  The daemon's user keeps

    keys/daemon          the daemon's secret key, hex
    keys/clients/NAME    the public key of one client that may come in, hex

in a folder of that user alone (`places.keys_dir`).  A client's secret is kept nowhere here.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from warmd.protocol.places import make_private_dir

HEARTBEAT_MILLISECONDS = 5_000
SILENCE_MILLISECONDS = 30_000
"""After which the other host is taken for gone."""
KEY_BYTES = 32
PREFIX = "warmd1_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ClientKey(NamedTuple):
    """What a client needs to reach one daemon over TCP."""

    daemon_public: bytes
    secret: bytes

    @property
    def text(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(self.daemon_public + self.secret).rstrip(b"=").decode()

    @staticmethod
    def parse(text: str) -> ClientKey:
        """The key that `text` is.  Raises ValueError, which does not repeat it."""
        text = text.strip()
        body = b""
        if text.startswith(PREFIX) and text.isascii():
            with contextlib.suppress(ValueError):
                body = base64.urlsafe_b64decode(text.removeprefix(PREFIX) + "==")
        if len(body) != 2 * KEY_BYTES:
            raise ValueError(
                f"the key is none of warmd's: it has {len(text)} characters, and one has 93 and starts "
                f"with {PREFIX}; `warmd keys new NAME` on the daemon's machine makes one"
            )
        return ClientKey(body[:KEY_BYTES], body[KEY_BYTES:])


def public_of(secret: bytes) -> bytes:
    """The public key of a secret one.  Raises zmq.ZMQError where libzmq was built without CURVE."""
    import zmq
    from zmq.utils import z85

    return z85.decode(zmq.curve_public(z85.encode(secret)))


class KeyFolder:
    """The keys of one daemon.  Its methods raise OSError where the folder cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def daemon_secret(self) -> bytes:
        """The daemon's own; made at its first use.  Raises ValueError for a file that holds no key."""
        path = make_private_dir(self.path) / "daemon"
        with contextlib.suppress(FileExistsError):
            _write(path, os.urandom(KEY_BYTES))
        return _read(path)

    def clients(self) -> dict[bytes, str]:
        """Name by public key of all who may come in.  A file that holds no key lets nobody in."""
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for path in sorted((self.path / "clients").iterdir()):
                if NAME.fullmatch(path.name):
                    with contextlib.suppress(ValueError, OSError):
                        found[_read(path)] = path.name
        return found

    def created(self, name: str) -> float:
        """When the client's key was made, in seconds since the epoch."""
        return self._client(name).stat().st_mtime

    def add(self, name: str) -> ClientKey:
        """Let a new client in.  Raises ValueError for a name that is none or is taken."""
        daemon_public, secret = public_of(self.daemon_secret()), os.urandom(KEY_BYTES)
        path = self._client(name)
        make_private_dir(path.parent)
        try:
            _write(path, public_of(secret))
        except FileExistsError:
            raise taken(name) from None
        return ClientKey(daemon_public, secret)

    def remove(self, name: str) -> None:
        """Let the client in no more.  Raises ValueError when there is none of that name."""
        try:
            self._client(name).unlink()
        except FileNotFoundError:
            known = ", ".join(sorted(self.clients().values())) or "none"
            raise ValueError(f"there is no key {name!r}; there are: {known}") from None

    def _client(self, name: str) -> Path:
        return self.path / "clients" / checked_name(name)


def checked_name(name: str) -> str:
    """`name`, if a key may be called so.  Raises ValueError."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a key's name: give 1 to 64 letters, digits, '_', '.' or '-', "
            "beginning with a letter or digit"
        )
    return name


def write_new(path: Path, text: str) -> None:
    """A file of this user alone: all of it or nothing, never over one that is there (FileExistsError)."""
    fd, draft = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)
        os.link(draft, path)
    finally:
        os.unlink(draft)


def taken(name: str) -> ValueError:
    """The error for a name that a key has already."""
    return ValueError(f"there is a key {name!r} already: choose another name, or revoke it first")


def _read(path: Path) -> bytes:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    key = bytes.fromhex(text) if re.fullmatch(r"[0-9a-f]{64}", text) else b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} holds no key: remove it, and make new keys with `warmd keys new NAME`")
    return key


def _write(path: Path, key: bytes) -> None:
    write_new(path, f"{key.hex()}\n")
