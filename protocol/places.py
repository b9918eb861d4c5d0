"""Where things are on disk, and what an address looks like; the client and the daemon agree here.

    $WARMD_RUN_DIR  or  $XDG_RUNTIME_DIR/warmd  or  /tmp/warmd-UID     the run directory
        warmd.sock   where clients connect      lock   held by the one daemon for its life
        door.sock    where workers come in      pid    for people to read
        warmd.full   warmd.sock, while the daemon takes no more connections

Logs lie in `$XDG_STATE_HOME/warmd` (`~/.local/state/warmd`), or in the run directory itself when
that was chosen explicitly: a daemon with a directory of its own keeps all it has there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

MAX_SOCKET_PATH_BYTES = 107
"""`sun_path` holds 108 bytes with its final zero; a longer path fails deep inside libzmq."""
SCHEME = "unix://"
TCP_SCHEME = "tcp://"
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+)):([0-9]{1,5})")
MAX_PORT = 65535


def default_run_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The run directory that `WARMD_RUN_DIR` names, or the user's own.  Creates nothing."""
    environ = os.environ if environ is None else environ
    chosen = environ.get("WARMD_RUN_DIR")
    return Path(chosen).expanduser().absolute() if chosen else users_run_dir(environ)


def users_run_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The run directory where none was chosen."""
    environ = os.environ if environ is None else environ
    runtime = environ.get("XDG_RUNTIME_DIR")
    # After `su` the variable still names the other user's directory, and in containers often none.
    if runtime and os.path.isabs(runtime) and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime) / "warmd"
    return Path(f"/tmp/warmd-{os.getuid()}")


def socket_path(run_dir: Path) -> Path:
    return run_dir / "warmd.sock"


def full_path(socket: Path) -> Path:
    """The clients' socket while the daemon takes no more connections."""
    return socket.with_suffix(".full")


def door_path(run_dir: Path) -> Path:
    return run_dir / "door.sock"


def lock_path(run_dir: Path) -> Path:
    return run_dir / "lock"


def pid_path(run_dir: Path) -> Path:
    return run_dir / "pid"


def state_dir(run_dir: Path, environ: Mapping[str, str] | None = None) -> Path:
    """Where the logs of the daemon with this run directory lie."""
    environ = os.environ if environ is None else environ
    if run_dir != users_run_dir(environ):
        return run_dir
    chosen = environ.get("XDG_STATE_HOME")
    base = Path(chosen) if chosen and os.path.isabs(chosen) else Path.home() / ".local" / "state"
    return base / "warmd"


def logs_dir(run_dir: Path, environ: Mapping[str, str] | None = None) -> Path:
    """Holds one file a session, `<session id>.log`."""
    return state_dir(run_dir, environ) / "logs"


def daemon_log_path(run_dir: Path, environ: Mapping[str, str] | None = None) -> Path:
    """What a daemon in the background has to say."""
    return state_dir(run_dir, environ) / "daemon.log"


def keys_dir(run_dir: Path, environ: Mapping[str, str] | None = None) -> Path:
    """Who may connect over TCP (`protocol.keys`)."""
    return state_dir(run_dir, environ) / "keys"


def check_socket_path(path: Path) -> Path:
    """`path`, when the kernel takes it as the name of a socket.  Raises ValueError."""
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"the socket path {path} has {length} bytes, the limit is {MAX_SOCKET_PATH_BYTES}: "
            "choose a shorter run directory (WARMD_RUN_DIR or --run-dir)"
        )
    return path


def address_of(path: Path) -> str:
    """How the socket at `path` is written for people and in `WARMD_HOST`."""
    return f"{SCHEME}{path}"


def path_of(address: str) -> Path:
    """The socket that an address names: `unix:///path/warmd.sock` or a plain absolute path.

    Raises ValueError for anything else, saying what would do.
    """
    path = address.removeprefix(SCHEME)
    if not os.path.isabs(path):
        raise ValueError(
            f"address {address!r} is none of unix:///path/to/warmd.sock, an absolute path, tcp://HOST:PORT; "
            "`warmd status` shows the address of the running daemon"
        )
    return check_socket_path(Path(path))


class TcpAddress(NamedTuple):
    host: str
    """A name or a number, without brackets."""
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TCP_SCHEME}{host}:{self.port}"


def tcp_of(address: str) -> TcpAddress:
    """`tcp://HOST:PORT`, an IPv6 number in brackets.  Raises ValueError."""
    found = _HOST_AND_PORT.fullmatch(address.removeprefix(TCP_SCHEME))
    if not address.startswith(TCP_SCHEME) or found is None or int(found[3]) > MAX_PORT:
        raise ValueError(f"address {address!r} is not tcp://HOST:PORT, such as tcp://127.0.0.1:7433")
    return TcpAddress(found[1] or found[2], int(found[3]))


def make_private_dir(path: Path) -> Path:
    """`path` as a directory of this user alone (0700), created if need be.

    Raises PermissionError when it is a symbolic link, not a directory, or somebody else's: in /tmp
    anybody could have put it there first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise PermissionError(
                f"{path} is a file, or a symbolic link: choose another WARMD_RUN_DIR"
            ) from None
        if found.st_uid != os.getuid():
            raise PermissionError(
                f"{path} belongs to uid {found.st_uid}, not to you: choose another WARMD_RUN_DIR"
            ) from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    return path
