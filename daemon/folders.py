"""A folder of files for each session, at the path in its `WARMD_SESSION_TMP`.

The app makes it when it needs it, as for a browser's profile; so most sessions have none.  It is
removed when nothing of the session's process tree is left, whatever ended that, and when the daemon
starts or stops: then all are that belong to no process of a daemon that lives.

They lie in a folder that may have been somebody's before (`tmp` of a run directory that was chosen), so
only what is named as they are is touched.  What is mounted in one is not theirs either.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Container, Iterable
from pathlib import Path

from warmd.daemon.worker.process import folder_name
from warmd.protocol import places

log = logging.getLogger("warmd.folders")

FOLDERS = "tmp"
MOUNTS = Path("/proc/self/mountinfo")
LEFTOVERS_SECONDS = 5.0
"""What takes longer to remove goes on beside."""
_NAME = re.compile(r"[a-z][0-9a-f]{12}")
_ESCAPED = re.compile(rb"\\([0-7]{3})")


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

    def wait(self, seconds: float) -> None:
        """Until it is over, or so long."""
        if self._thread is not None:
            self._thread.join(seconds)


def remove_leftovers(run_dir: Path, in_use: Callable[[], Container[str]]) -> None:
    """Removes the folders of sessions that are gone.

    `in_use()` is asked after they were listed, and so knows the sessions of all that were there.
    """
    remove_from(folders_dir(run_dir), in_use)


def remove_from(base: Path, in_use: Callable[[], Container[str]]) -> None:
    """The same for what lies in `base`."""
    try:
        found = [folder for folder in base.iterdir() if _NAME.fullmatch(folder.name)]
        spared = in_use() if found else ()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("what sessions have left in %s cannot be looked at: %s", base, error)
        return
    gone = [folder for folder in found if str(folder) not in spared]
    if gone and not _all_removed(gone):
        log.warning("removing what sessions have left in %s takes long: it goes on beside", base)
        return
    with contextlib.suppress(OSError):
        base.rmdir()


def _all_removed(folders: Iterable[Path]) -> bool:
    """Whether that was done in time."""

    def remove() -> None:
        for folder in folders:
            _remove(folder)

    thread = threading.Thread(target=remove, name="warmd-remover", daemon=True)
    thread.start()
    thread.join(LEFTOVERS_SECONDS)
    return not thread.is_alive()


def _remove(folder: Path) -> None:
    if not folder.is_dir() or folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.unlink()
    elif mounts := _mounts_in(folder):
        log.warning("%s is left, since something is mounted at %s: unmount and remove it", folder, mounts[0])
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.lexists(folder):
            _make_writable(folder)
            shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        log.warning("%s cannot be removed: its session is gone, remove it yourself", folder)


def _mounts_in(folder: Path) -> list[str]:
    """Where in it something is mounted: what lies there is no file of the session's."""
    inside = os.fsencode(os.path.realpath(folder))
    with contextlib.suppress(OSError):
        lines = MOUNTS.read_bytes().splitlines()
        points = [_ESCAPED.sub(lambda code: bytes([int(code[1], 8)]), line.split()[4]) for line in lines]
        return [os.fsdecode(one) for one in points if one == inside or one.startswith(inside + b"/")]
    return []


def _make_writable(folder: Path) -> None:
    """Some programs write-protect their folders."""
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
    for path, names, _ in os.walk(folder):
        for name in names:
            inner = os.path.join(path, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)
