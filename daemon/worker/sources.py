"""What an import has read, so that a template is not forked any more when its app has changed.

Noted are the app's own modules, which are all outside of the interpreter's folders, and those folders
of installed packages as such: they change when a package comes or goes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

MAX_SOURCES = 4000
PACKAGES = ("site-packages", "dist-packages")


class Source(NamedTuple):
    path: str
    modified_ns: int
    size: int


def read_so_far() -> list[Source]:
    """The files and folders that the modules of this process come from."""
    paths = [*_package_folders(), *(path for _, path in own_modules())]
    return [source for path in paths[:MAX_SOURCES] if (source := look(path)) is not None]


def look(path: str) -> Source | None:
    """The file as it is now; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Source(path, found.st_mtime_ns, found.st_size)


def unchanged(sources: Iterable[Source]) -> bool:
    """Whether all of them are still as they were."""
    return all(look(source.path) == source for source in sources)


def _package_folders() -> list[str]:
    return [path for path in sys.path if os.path.basename(path) in PACKAGES]


def own_modules() -> list[tuple[str, str]]:
    """Names and files of modules that belong neither to Python nor to an installed package."""
    installed = tuple(os.path.join(path, "") for path in {sys.base_prefix, sys.prefix, *_package_folders()})
    found = []
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and not path.startswith(installed):
            found.append((name, path))
    return found
