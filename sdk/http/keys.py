"""Bearer keys: who may come in, and for what.

A key is one text, `wk_` and 43 characters of base64url (32 random bytes).  It is printed once and kept
nowhere: its file has the SHA-256 of it, which is enough for a secret that cannot be guessed.  The first
digits of that are the key's id, by which sessions and tasks know whose they are: a name that is given
again later is another key.

    keys/http/NAME      {"sha256": hex, "scopes": ["run", "read"]}

The folder is this user's alone.  A gateway that runs looks at its time of change before each request, so
a key that is revoked is none from then on.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from warmd.http.problems import HttpProblem
from warmd.protocol.keys import NAME, checked_name, taken, write_new
from warmd.protocol.places import make_private_dir

SCOPES = ("run", "read", "admin")
"""run: begin, cancel and end; read: look; admin: all of it, and what belongs to other keys too."""
DEFAULT_SCOPES = ("run", "read")
OPEN_ID = "open"
PREFIX = "wk_"
ID_DIGITS = 16
REMEDY = "send `Authorization: Bearer wk_...`; `warmd http keys add NAME` on the gateway's machine makes one"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key, or anybody where the gateway is open."""

    id: str
    name: str
    scopes: frozenset[str]
    rate: float | None = None
    """Requests a second; 0 for no limit, None for the gateway's (`--rate`)."""

    def may_see(self, owner: str) -> bool:
        """Whether what belongs to the key `owner` is this one's to see."""
        return owner == self.id or "admin" in self.scopes

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


ANYBODY = Caller(OPEN_ID, "anybody", frozenset(SCOPES))


class Keys:
    """The keys of one gateway, in one folder.  Its methods raise OSError where that cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._callers: dict[str, Caller] = {}

    def caller(self, token: str | None) -> Caller:
        """Who has this key.  Raises HttpProblem for nobody."""
        if token is None:
            raise HttpProblem("UNAUTHORIZED", f"this needs a key: {REMEDY}")
        caller = self._known().get(_digest(token))
        if caller is None:
            raise HttpProblem("UNAUTHORIZED", f"nobody has this key, or it was revoked: {REMEDY}")
        return caller

    def check(self, caller: Caller) -> None:
        """Raises HttpProblem where this is no key any more."""
        if caller not in self._known().values():
            raise HttpProblem("UNAUTHORIZED", f"the key {caller.name!r} was revoked: {REMEDY}")

    def named(self, name: str) -> Caller:
        """The key of that name.  Raises ValueError where there is none."""
        for caller in self._known().values():
            if caller.name == name:
                return caller
        known = ", ".join(sorted(caller.name for caller in self._known().values())) or "none"
        raise ValueError(f"there is no key {name!r}; there are: {known}")

    def callers(self) -> list[Caller]:
        """All of them, by name."""
        return sorted(self._known().values(), key=lambda caller: caller.name)

    def created(self, name: str) -> float:
        """When the key was made, in seconds since the epoch."""
        return self._file(name).stat().st_mtime

    def add(self, name: str, scopes: Sequence[str] = DEFAULT_SCOPES, rate: float | None = None) -> str:
        """Make a key; its text.  Raises ValueError for a name that is none or taken, an odd scope or rate."""
        for scope in scopes:
            if scope not in SCOPES:
                raise ValueError(f"{scope!r} is no scope; there are: {', '.join(SCOPES)}")
        if rate is not None and not 0 <= rate < math.inf:
            raise ValueError(f"rate: {rate:g} is refused: give requests a second, 0 for no limit")
        path = self._file(name)
        text = PREFIX + base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        for folder in (path.parent.parent, path.parent):
            make_private_dir(folder)
        try:
            write_new(path, json.dumps({"sha256": _digest(text), "scopes": sorted({*scopes}), "rate": rate}))
        except FileExistsError:
            raise taken(name) from None
        return text

    def revoke(self, name: str) -> None:
        """It is no key any more.  Raises ValueError where there is none of that name."""
        try:
            self._file(name).unlink()
        except FileNotFoundError:
            self.named(name)

    def _file(self, name: str) -> Path:
        return self.path / checked_name(name)

    def _known(self) -> dict[str, Caller]:
        """By the digest of their text.  A file that holds no key lets nobody in."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return {}
        seen = (status.st_ino, status.st_mtime_ns)
        if seen != self._seen:
            self._callers = dict(filter(None, map(_read, self.path.iterdir())))
            self._seen = seen
        return self._callers


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> tuple[str, Caller] | None:
    with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
        if NAME.fullmatch(path.name):
            told = json.loads(path.read_text(encoding="ascii"))
            digest = bytes.fromhex(told["sha256"]).hex()
            rate = told.get("rate")
            rate = None if rate is None else float(rate)
            return digest, Caller(digest[:ID_DIGITS], path.name, frozenset(told["scopes"]), rate)
    return None
