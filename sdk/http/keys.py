"""Bearer keys: who may come in, and for what.

A key is one text, `wk_` and 43 characters of base64url (32 random bytes).  It is printed once and kept
nowhere: the file has its SHA-256, which is enough for a secret that cannot be guessed.  The first digits
of that are the key's id, by which sessions and tasks know whose they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmd.http.problems import HttpProblem

SCOPES = ("run", "read", "admin")
OPEN_ID = "open"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key, or anybody where the gateway is open."""

    id: str
    name: str
    scopes: frozenset[str]

    def may_see(self, owner: str) -> bool:
        """Whether what belongs to the key `owner` is this one's to see."""
        return owner == self.id or "admin" in self.scopes

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


ANYBODY = Caller(OPEN_ID, "anybody", frozenset(SCOPES))


class Keys:
    """The keys of one gateway, in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def caller(self, token: str | None) -> Caller:
        """Who has this key.  Raises HttpProblem for nobody."""
        raise HttpProblem("UNAUTHORIZED", f"give a key: Authorization: Bearer wk_..., not {str(token)[:3]}")

    def named(self, name: str) -> Caller:
        """Whoever has the key of that name.  Raises HttpProblem where there is none."""
        raise HttpProblem("NOT_ALLOWED", f"there is no key {name!r}: `warmd http keys add {name}` makes it")
