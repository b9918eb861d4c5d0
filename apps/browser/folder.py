"""The folder of one session's browser: its profile, its downloads, and its temporary files."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from warmd.app import context

MOST_PATH_BYTES = 107 - len("/org.chromium.Chromium.XXXXXX/SingletonSocket")
"""Chromium puts a socket there, and ends at once where its path is too long."""


class Folder:
    """Made with this object; outside of a worker it is a temporary one."""

    def __init__(self) -> None:
        self.path = Path(context.folder or tempfile.mkdtemp(prefix="warmd-browser-"))
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def profile(self) -> Path:
        return self.path / "profile"

    @property
    def temporary(self) -> str:
        """Where the browser has its temporary files: the folder, by a name of few bytes.

        Under a long path it is named by this process's descriptor of it, which lives as long.
        """
        path = str(self.path)
        return path if len(os.fsencode(path)) <= MOST_PATH_BYTES else f"/proc/{os.getpid()}/fd/{self._fd}"

    def clear(self) -> None:
        """Nothing of an earlier browser is there for the next one."""
        for path in self.path.iterdir():
            shutil.rmtree(path, ignore_errors=True)
            if path.is_symlink() or path.is_file():
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            shutil.rmtree(self.path, ignore_errors=True)
