"""How another interpreter becomes a worker: `python .../worker/__main__.py DOOR PACKAGE=FOLDER ...`.

It need not know warmd.  The packages named are found in the folders given, which are the daemon's own, so
that both sides are the same version; msgpack is lent only where the interpreter has none itself.

Any Python 3 must be able to read this file, to be told that it is too old.
"""

from __future__ import annotations

import sys
from typing import Any

MINIMUM = (3, 11)
LENT_IF_MISSING = ("msgpack",)


class Lender:
    """A finder for packages that lie elsewhere."""

    def __init__(self, folders: dict[str, str]) -> None:
        self._folders = folders

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002
        folder = self._folders.get(name)
        if folder is None:
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(name, folder + "/__init__.py", submodule_search_locations=[folder])


def lend(arguments: list[str]) -> None:
    """Make the packages known that are named as `package=folder`."""
    folders = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    missing = {name: folders.pop(name) for name in LENT_IF_MISSING if name in folders}
    finders: list[Any] = sys.meta_path
    finders.insert(0, Lender(folders))
    finders.append(Lender(missing))


if len(sys.argv) > 2:
    if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # this folder, whose modules would hide others of these names
    # Also in the app's own children: the spawn method of multiprocessing imports this file again in them.
    lend(sys.argv[2:])

if __name__ == "__main__":
    if sys.version_info < MINIMUM:
        sys.exit(
            "an app's interpreter must be Python {}.{} or newer: {} is {}.{}".format(
                *MINIMUM, sys.executable, *sys.version_info[:2]
            )
        )
    from warmd.daemon.worker.main import start_worker

    start_worker(sys.argv[1])
