"""Where the gateways of a daemon serve, for `warmd open` on the same machine.

    FOLDER/serving/NAME    what it serves, as JSON; locked by the gateway for as long as it lives

So a file that is not locked was left by a gateway that was killed, and means nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from warmd.http.options import spelled
from warmd.protocol.places import make_private_dir

ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where one asks who listens everywhere."""


class Serving(NamedTuple):
    """A gateway that serves."""

    url: str
    """As it is reached from this machine."""
    open: bool
    """It wants no key."""


def address_of(host: str, port: int) -> str:
    """The address of a gateway that listens there."""
    return f"http://{spelled(ANY_HOST.get(host, host), port)}"


@contextlib.contextmanager
def announced(folder: Path, serving: Serving) -> Iterator[None]:
    """Says so, for as long as this lasts.  Raises OSError."""
    for one in (folder, folder / "serving"):
        make_private_dir(one)
    path = folder / "serving" / f"{os.getpid()}-{os.urandom(4).hex()}"
    with open(path, "x", encoding="utf-8", opener=_private) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        json.dump(serving._asdict(), file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def found(folder: Path) -> list[Serving]:
    """The gateways that serve, the one that came last before all."""
    paths = [*(folder / "serving").glob("*")] if (folder / "serving").is_dir() else []
    with contextlib.suppress(FileNotFoundError):
        paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [serving for path in paths if (serving := _read(path)) is not None]


def _read(path: Path) -> Serving | None:
    """None, and the file goes, where its gateway has ended."""
    try:
        with open(path, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                told = json.load(file)
                return Serving(str(told["url"]), bool(told["open"]))
            path.unlink(missing_ok=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it ended in this moment, or begins
    return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
