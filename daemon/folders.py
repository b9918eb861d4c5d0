"""A folder of files for each session, at the path in its `WARMD_SESSION_TMP`.

The app makes it when it needs it, as for a browser's profile; so most sessions have none.  It is
removed when nothing of the session's process tree is left, whatever ended that, and when the daemon
starts or stops: then all are that belong to no process of a daemon that lives.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Container
from pathlib import Path

from warmd.daemon.worker.process import folder_name
from warmd.protocol import places

log = logging.getLogger("warmd.folders")

FOLDERS = "tmp"


def folders_dir(run_dir: Path) -> Path:
    """Holds the folders of all sessions: beside the logs, since a profile can be large."""
    return places.state_dir(run_dir) / FOLDERS


def folder_of(run_dir: Path, session: str) -> Path:
    return folders_dir(run_dir) / folder_name(session)


class Removal:
    """Removes a folder, on a thread of its own: that may take long, and for ever on a dead file system.

    A folder that is not there costs one look.
    """

    def __init__(self, folder: Path) -> None:
        self._thread: threading.Thread | None = None
        if os.path.lexists(folder):
            self._thread = threading.Thread(target=_remove, args=(folder,), name="warmd-remover", daemon=True)
            self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._thread is None or not self._thread.is_alive()


def remove_leftovers(run_dir: Path, in_use: Callable[[], Container[str]]) -> None:
    """Removes the folders of sessions that are gone, and all that lies between them.

    `in_use()` is asked after they were listed, and so knows the sessions of all that were there.
    """
    base = folders_dir(run_dir)
    try:
        found = list(base.iterdir())
        spared = in_use() if found else ()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("what sessions have left in %s cannot be looked at: %s", base, error)
        return
    for folder in found:
        if str(folder) not in spared:
            _remove(folder)
    with contextlib.suppress(OSError):
        base.rmdir()


def _remove(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            folder.unlink()
    if os.path.lexists(folder):
        log.warning("%s cannot be removed: its session is gone, remove it yourself", folder)
