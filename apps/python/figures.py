"""The plots of a cell: a figure of matplotlib that is shown becomes a PNG of its result.

matplotlib finds our backend by the variable MPLBACKEND, so it is only imported where a cell does it.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

MAX_PLOTS = 50
"""Of one cell; what is beyond is closed and counted."""
_FOLDER = "warmd-matplotlib-"
BACKEND = "module://warmd.apps.python.backend"

shown: list[bytes] = []
"""The plots of the running cell, as PNG."""
dropped_plots = 0


def show(*_: Any, **__: Any) -> None:
    """`plt.show()`: all open figures are drawn and closed."""
    global dropped_plots
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    try:
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            if not figure.axes and not figure.texts:
                continue
            if len(shown) == MAX_PLOTS:
                dropped_plots += 1
                continue
            shown.append(_drawn(figure))
    finally:
        pyplot.close("all")


def png(figure: Any) -> bytes:
    """The figure as PNG, for `display(figure)`; it counts as shown and is closed."""
    try:
        return _drawn(figure)
    finally:
        sys.modules["matplotlib.pyplot"].close(figure)


def _drawn(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", bbox_inches="tight")
    return content.getvalue()


def take() -> tuple[list[bytes], int]:
    """The plots since the last time, and how many more there were."""
    global dropped_plots
    plots, dropped = shown[:], dropped_plots
    shown.clear()
    dropped_plots = 0
    return plots, dropped


class Settings:
    """The environment by which matplotlib finds this backend, and a folder for its list of fonts.

    Where the user has such a list, by using matplotlib, it is taken.  Else matplotlib would begin one
    in the home directory; here it goes into a folder that ends with the session.
    """

    def __init__(self) -> None:
        self._before = {name: os.environ.get(name) for name in ("MPLBACKEND", "MPLCONFIGDIR")}
        os.environ["MPLBACKEND"] = BACKEND
        self._matplotlib: Any = sys.modules.get("matplotlib")
        if self._matplotlib is not None:
            self._backend = self._matplotlib.get_backend()
            self._matplotlib.use(BACKEND)
        self._folder: Path | None = None
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib"
        if not os.environ.get("MPLCONFIGDIR") and not any(cache.glob("fontlist-*.json")):
            _remove_left_folders()
            # Only named: matplotlib makes it, should it be imported.
            self._folder = Path(tempfile.gettempdir()) / f"{_FOLDER}{os.getpid()}-{os.urandom(8).hex()}"
            os.environ["MPLCONFIGDIR"] = str(self._folder)

    def undo(self) -> None:
        """The environment as it was, and the folder gone."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._matplotlib is not None:
            self._matplotlib.use(self._backend)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _remove_left_folders() -> None:
    """Those of sessions that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*-*"):
        pid = path.name.removeprefix(_FOLDER).partition("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)
