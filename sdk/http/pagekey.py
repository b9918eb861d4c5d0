"""The key of the dashboard: `warmd open` gives it to the browser, so that nobody need type one.

Its text lies in `FOLDER/page-key`, readable by this user only, who may do at the daemon's socket all that
the key may.  It is a key like others, named `warmd-open` (`warmd-open-2` where that name is taken): it can
be listed, and revoked; then the next `warmd open` makes another.
"""

from __future__ import annotations

import contextlib
import os
from itertools import count
from pathlib import Path

from warmd.http.keys import Keys
from warmd.http.problems import HttpProblem
from warmd.locks import lock
from warmd.protocol.keys import write_new
from warmd.protocol.places import make_private_dir

NAME = "warmd-open"
LOCK_SECONDS = 10.0


def page_key(folder: Path, keys: Keys) -> str:
    """Its text; it is made where there is none.  Raises OSError."""
    make_private_dir(folder)
    descriptor = os.open(folder / "page-key.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lock(descriptor, LOCK_SECONDS)
        path = folder / "page-key"
        return _known(path, keys) or _made(path, keys)
    finally:
        os.close(descriptor)


def _known(path: Path, keys: Keys) -> str | None:
    with contextlib.suppress(FileNotFoundError, HttpProblem, ValueError):
        text = path.read_text(encoding="ascii")
        if keys.caller(text).may("admin"):
            return text
    return None


def _made(path: Path, keys: Keys) -> str:
    path.unlink(missing_ok=True)
    text = keys.add(_free_name(keys), ("admin",))
    write_new(path, text)
    return text


def _free_name(keys: Keys) -> str:
    """Keys of that name may be another daemon's page's, or somebody's own."""
    taken = {caller.name for caller in keys.callers()}
    names = (NAME if number == 1 else f"{NAME}-{number}" for number in count(1))
    return next(name for name in names if name not in taken)
