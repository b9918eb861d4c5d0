"""Addresses of files: nobody can guess one, and the gateway knows its own again.

    BASE/content/{id}/{secret}/{filename}

All comes from one key of 32 random bytes, kept beside the files.  An id ends with digits that only the
key gives, so that an address of this gateway is told from any other also when its file is long gone.
The secret is made of the id, the key and what it is for: whoever may read a file may not write it, and
nothing secret need be kept with the file.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Literal
from urllib.parse import quote

KEY_BYTES = 32
CONTENT = "/content/"
ID = re.compile(r"file_[0-9a-f]{32}")
MARK = f"{CONTENT}file_"
"""What every address of a file has in it."""
_MARK_DIGITS = 8
_DIGITS = 32 - _MARK_DIGITS
_SECRET_BYTES = 24
_ADDRESS = re.compile(rf"https?://[^\s?#]+{CONTENT}({ID.pattern})/([A-Za-z0-9_-]+)/[^\s/?#]*")

Purpose = Literal["read", "write"]


class Addresses:
    """Those of one gateway."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def new_id(self, of: str = "") -> str:
        """One that nobody has had; all gateways that have the key make the same `of` the same text."""
        digits = secrets.token_hex(_DIGITS // 2) if not of else self._of("output", of).hex()[:_DIGITS]
        return f"file_{digits}{self._mark(digits)}"

    def is_ours(self, id: str) -> bool:
        """Whether this gateway has given the id, at any time."""
        digits = id.removeprefix("file_")[:-_MARK_DIGITS]
        return ID.fullmatch(id) is not None and hmac.compare_digest(id[-_MARK_DIGITS:], self._mark(digits))

    def path(self, id: str, filename: str, purpose: Purpose) -> str:
        return f"{CONTENT}{id}/{self._secret(id, purpose)}/{quote(filename, safe='')}"

    def opens(self, id: str, secret: str, purpose: Purpose) -> bool:
        """Whether the secret is the file's; compared in constant time."""
        return hmac.compare_digest(secret.encode(), self._secret(id, purpose).encode())

    def id_in(self, text: str) -> tuple[str, bool] | None:
        """The id in an address of this gateway's, and whether its secret is right; None for other texts."""
        found = _ADDRESS.fullmatch(text)
        if found is None or not self.is_ours(found[1]):
            return None
        return found[1], self.opens(found[1], found[2], "read")

    def _mark(self, digits: str) -> str:
        return self._of("id", digits).hex()[:_MARK_DIGITS]

    def _secret(self, id: str, purpose: Purpose) -> str:
        return base64.urlsafe_b64encode(self._of(purpose, id)[:_SECRET_BYTES]).decode()

    def _of(self, what: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{what} {text}".encode("utf-8", "replace"), hashlib.sha256)
