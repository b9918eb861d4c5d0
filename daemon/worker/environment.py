"""An app's own Python environment, made once for each list of requirements.

It lies in the user's cache, in a folder named by what it is made from: the interpreter and the
requirements.  The first process of the app makes it, before it becomes that environment's interpreter;
others that need the same one wait for it (`flock`, which goes with its last holder: the tools hold it too,
since they may outlive a process that is killed).  Only a whole one has the file `complete`, so what a
killed process has left is made anew.

uv is used where it is found, else venv and pip.  What they say goes to the app's log.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME_DIGITS = 20
SHOWN_LINES = 5
COMPLETE = "complete"
PIP_OPTIONS = ("--disable-pip-version-check", "--progress-bar=off")


class EnvironmentFailed(Exception):
    """The environment could not be made; the text says which command failed, and how."""


def interpreter(python: str | None, requirements: str) -> str:
    """The interpreter of the environment with these requirements, which is made if there is none.

    `python` is what it is to be made with; None: the running one.  Raises EnvironmentFailed.
    """
    base = python or sys.executable
    try:
        folder = folder_of(base, requirements)
        if not _is_whole(folder):
            with _locked(folder.with_suffix(".lock")) as lock:
                if not _is_whole(folder):
                    _make(folder, base, requirements, lock)
    except OSError as error:
        raise EnvironmentFailed(f"{error.strerror}: {error.filename}") from error
    return str(_python_of(folder))


def _python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def _is_whole(folder: Path) -> bool:
    """Also what it links to is there: the interpreter that it was made with may be gone."""
    return (folder / COMPLETE).exists() and os.access(_python_of(folder), os.X_OK)


def folder_of(base: str, requirements: str) -> Path:
    """Where the environment lies, or will.  Raises OSError for an interpreter that is not there."""
    found = os.stat(base)
    made_from = f"{os.path.realpath(base)} {found.st_size} {found.st_mtime_ns}\n{requirements}"
    name = hashlib.sha256(made_from.encode()).hexdigest()[:NAME_DIGITS]
    return _cache() / "environments" / name


def _cache() -> Path:
    chosen = os.environ.get("XDG_CACHE_HOME")
    return (Path(chosen) if chosen and os.path.isabs(chosen) else Path.home() / ".cache") / "warmd"


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Nobody else makes this environment meanwhile; who waits too long is ended by the daemon.

    Yields the descriptor that holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another process makes the app's environment: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _make(folder: Path, base: str, requirements: str, lock: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        (folder / COMPLETE).unlink()
    shutil.rmtree(folder, ignore_errors=True)
    _say(f"making the app's environment in {folder}, of:\n{requirements}")
    python = str(_python_of(folder))
    listed = folder / "requirements.txt"
    uv = _uv()
    if uv is not None:
        _run(lock, uv, "venv", "--quiet", "--python", base, str(folder))
        listed.write_text(requirements)
        _run(lock, uv, "pip", "install", "--python", python, "-r", str(listed))
    else:
        _run(lock, base, "-m", "venv", str(folder))
        listed.write_text(requirements)
        _run(lock, python, "-m", "pip", "install", *PIP_OPTIONS, "-r", str(listed))
    (folder / COMPLETE).touch()
    _say("the app's environment is complete")


def _uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def _run(lock: int, *command: str) -> None:
    """What it says is passed on as it comes.  Raises EnvironmentFailed with its last lines."""
    last: deque[str] = deque(maxlen=SHOWN_LINES)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        errors="replace", pass_fds=(lock,),
    ) as running:  # fmt: skip
        assert running.stdout is not None
        for line in running.stdout:
            last.append(line)
            _say(line.rstrip("\n"))
    if running.returncode:
        what = " ".join([os.path.basename(command[0]), *command[1:3]])
        raise EnvironmentFailed(f"`{what}` ended with code {running.returncode}: {''.join(last).strip()}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk costs lines only
        os.write(2, f"{text}\n".encode("utf-8", "replace"))
