"""What `warmd doctor` looks at of warmd itself: its places, its settings, its daemon, what is left of one."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from warmd import __version__
from warmd.cli.findings import Check, Host, Level
from warmd.cli.talk import size
from warmd.daemon import config
from warmd.http.options import options
from warmd.protocol import places
from warmd.protocol.errors import WarmdError
from warmd.protocol.keys import KeyFolder

Said = Iterator[tuple[Level, str]]

LITTLE_SPACE_BYTES = 64 * 2**20
FEW_INODES = 1000
REMOTE = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs")
"""File systems on which sockets and locks of one machine do not work, or can hang."""
VIRTUAL = ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "debugfs", "tracefs")
"""File systems that take no files of ours, whatever their modes say."""
TOKEN = b"WARMD_WORKER_TOKEN="


def run_directory(host: Host) -> Said:
    """Whether a daemon could use, or uses, its directory."""
    path = host.run_dir
    for name in (places.socket_path(path), places.door_path(path)):
        try:
            places.check_socket_path(name)
        except ValueError as error:
            yield "bad", str(error)
            return
    if not os.path.lexists(path):
        yield _to_be_made(host, path)
        return
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        yield "bad", f"the run directory {path} is a file, or a symbolic link: set WARMD_RUN_DIR"
    elif found.st_uid != os.getuid():
        yield "bad", f"the run directory {path} belongs to uid {found.st_uid}, not to you: set WARMD_RUN_DIR"
    else:
        yield from _usable(host, path, found.st_mode)


def _to_be_made(host: Host, path: Path) -> tuple[Level, str]:
    above = next(parent for parent in path.parents if parent.exists())
    kind = _file_system(host, above)
    if kind in VIRTUAL:
        return "bad", f"{path} would lie on {kind}, which takes no files: set WARMD_RUN_DIR"
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        what = "not writable" if above.is_dir() else "a file"
        return "bad", f"{above} is {what}, so {path} cannot be made: set WARMD_RUN_DIR"
    return "ok", f"the run directory {path} will be made by the first daemon"


def _usable(host: Host, path: Path, mode: int) -> Said:
    if stat.S_IMODE(mode) & 0o077:
        yield "warn", f"others may enter {path} (mode {stat.S_IMODE(mode):o}): run `chmod 700 {path}`"
    if not os.access(path, os.W_OK | os.X_OK):
        yield "bad", f"the run directory {path} is not writable: run `chmod 700 {path}`"
        return
    kind = _file_system(host, path)
    if kind not in VIRTUAL:
        yield from room(path, "run directory")
    if kind in REMOTE or kind in VIRTUAL:
        yield "bad", f"{path} lies on {kind}, where sockets and locks do not work: set WARMD_RUN_DIR"


def log_directory(host: Host) -> Said:
    path = places.state_dir(host.run_dir, host.environ)
    above = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    kind = _file_system(host, above)
    if kind in VIRTUAL:
        yield "bad", f"logs cannot be written: {path} would lie on {kind}; set WARMD_RUN_DIR"
    elif not os.access(above, os.W_OK | os.X_OK):
        yield "bad", f"logs cannot be written: {above} is not writable; run `chmod u+rwx {above}`"
    else:
        yield from room(above, "log directory")


def keys(host: Host) -> Said:
    """Who may connect over TCP, and whether others could make themselves keys."""
    folder = KeyFolder(places.keys_dir(host.run_dir, host.environ))
    try:
        names, found = sorted(folder.clients().values()), folder.path.lstat()
    except FileNotFoundError:
        yield "ok", "nobody may connect over TCP; `warmd keys new NAME` makes a key"
        return
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        remedy = f"run `chmod 700 {folder.path}`, and revoke what is not yours"
        yield "bad", f"others may enter {folder.path}: {remedy}"
    yield "ok", f"over TCP may connect: {', '.join(names) or 'nobody'}"


def room(path: Path, what: str) -> Said:
    """How much a directory's file system still takes."""
    found = os.statvfs(path)
    free, inodes = found.f_bavail * found.f_frsize, found.f_favail
    if free < LITTLE_SPACE_BYTES or (found.f_files and inodes < FEW_INODES):
        left = f"{size(free)} and {inodes} inodes"
        yield "bad" if not free else "warn", f"the {what} {path} has only {left} left: free some"
    else:
        yield "ok", f"the {what} {path} is writable and has {size(free)} free"


def _file_system(host: Host, path: Path) -> str:
    best, kind = "", ""
    for line in host.read("proc/self/mountinfo").splitlines():
        mount, _, rest = line.partition(" - ")
        point = mount.split()[4]
        inside = point == "/" or f"{path}/".startswith(f"{point}/")
        if inside and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind


def settings(host: Host) -> Said:
    """The files and variables that a daemon would read, each by itself."""
    try:
        files = [*config.standard_files(host.environ)]
    except config.ConfigError as error:
        yield "bad", f"{error} (correct or unset it)"
        files = []
    read = [path for path in [*config.project_files(host.cwd), *files] if _says_anything(path)]
    wrong = [*_errors_of_files(read), *_errors_of_variables(host)]
    yield from (("bad", text) for text in wrong)
    if not wrong:
        yield "ok", f"settings come from {', '.join(map(str, read)) or 'no file'}, and are sound"


def _says_anything(path: Path) -> bool:
    """A `pyproject.toml` mostly is about other things."""
    return path.is_file() and (path.name != "pyproject.toml" or "[tool.warmd" in path.read_text())


def _errors_of_files(files: list[Path]) -> Iterator[str]:
    for path in files:
        try:
            config.load({}, {}, [path])
        except config.ConfigError as error:
            yield f"{error} (correct the file)"


def _errors_of_variables(host: Host) -> Iterator[str]:
    for name in sorted(name for name in host.environ if name.startswith(config.PREFIX)):
        try:
            config.load({}, {name: host.environ[name]}, [])
        except config.ConfigError as error:
            yield f"{error} (correct or unset it)"
    try:
        options(None, False, {}, host.environ)
    except ValueError as error:
        yield f"{error} (correct or unset it)"


def apps(host: Host) -> Said:
    """Apps that are registered, and cannot be found where they should be."""
    count = 0
    for entry in metadata.entry_points(group="warmd.apps"):
        count += 1
        top = entry.module.partition(".")[0]
        if util.find_spec(top) is None:
            yield (
                "warn",
                f"app {entry.name!r} is registered as {entry.value}, and there is no {top}: reinstall it",
            )
    for folder in filter(None, host.environ.get("WARMD_APPS", "").split(os.pathsep)):
        if not Path(folder).expanduser().is_dir():
            yield "warn", f"WARMD_APPS names {folder}, and there is no such folder: correct it"
    yield "ok", f"{count} apps are registered"


def daemon(host: Host) -> Said:
    """Whether one runs, answers, and is of our version."""
    from warmd.cli.link import running_daemon
    from warmd.client import Client

    address = places.address_of(places.socket_path(host.run_dir)) if host.address is None else host.address
    try:
        with Client(address) as client:
            found = running_daemon(client)
    except WarmdError as error:
        pid = _pid(host)
        remedy = f"look at its log, and end it with `kill {pid}`" if pid else "end that process"
        yield "bad", f"{error.message}: {remedy}"
        return
    if found is None:
        yield "ok", f"no daemon runs at {address}; the first call starts one, or `warmd start`"
        return
    yield "ok", f"warmd {found['version']} answers at {address} (pid {found['pid']})"
    if found["version"] != __version__:
        yield (
            "warn",
            f"the daemon is warmd {found['version']}, this is {__version__}: run `warmd stop`",
        )
    if found.get("log_errors"):
        yield "warn", f"logs failed {found['log_errors']} times, at last: {found['log_error']}; free the disk"
    lost = found.get("log_lines_dropped", 0) + found.get("daemon_log_lines_dropped", 0)
    if lost:
        yield "warn", f"{lost} log lines were lost to a full disk: free it"


def stale(host: Host) -> Said:
    """Files that a dead daemon left, and a lock whose holder does not listen."""
    path = places.socket_path(host.run_dir)
    listening = _listens(path)
    held = _held(host, places.lock_path(host.run_dir))
    pid = _pid(host)
    alive = pid is not None and (host.proc / str(pid)).exists()
    if held and not listening:
        yield (
            "bad",
            f"a process{f' (pid {pid})' if pid else ''} holds {places.lock_path(host.run_dir)} and does not "
            "listen: it hangs, or has just begun; if it stays so, end it with `kill`",
        )
    elif path.exists() and not listening:
        yield "warn", f"{path} is left from a daemon that died: the next start clears it away"
    if pid is not None and not alive and not held:
        yield (
            "warn",
            f"{places.pid_path(host.run_dir)} names process {pid}, which is gone: the next start clears it",
        )
    if listening or not (held or path.exists() or pid is not None):
        yield "ok", "no stale files"


def leftovers(host: Host) -> Said:
    """Workers whose daemon is dead: they hold memory and devices for nobody."""
    left = [pid for pid, owner in _workers(host) if not (host.proc / owner).exists()]
    if left:
        pids = ", ".join(left)
        yield (
            "bad",
            f"workers of a dead daemon still live (pids {pids}): the next start in {host.run_dir} ends "
            f"them, or `kill -9 {' '.join(left)}`",
        )
    else:
        yield "ok", "no workers are left of a dead daemon"


def _workers(host: Host) -> Iterator[tuple[str, str]]:
    """Process id, and that of its daemon, of each worker of ours in this run directory."""
    for folder in host.proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            pairs = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        named = dict(pair.split(b"=", 1) for pair in pairs if pair.startswith(b"WARMD_") and b"=" in pair)
        ours = named.get(b"WARMD_RUN_DIR") == os.fsencode(host.run_dir)
        if ours and TOKEN[:-1] in named and b"WARMD_DAEMON_PID" in named:
            yield folder.name, os.fsdecode(named[b"WARMD_DAEMON_PID"])


def _pid(host: Host) -> int | None:
    try:
        text = places.pid_path(host.run_dir).read_text(errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def _listens(path: Path) -> bool:
    if len(os.fsencode(path)) > places.MAX_SOCKET_PATH_BYTES:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(os.fspath(path)) in (0, errno.EAGAIN)


def _held(host: Host, path: Path) -> bool:
    """Whether a process holds the lock.  Read from /proc: to try it could keep out a daemon that starts."""
    try:
        found = path.lstat()
    except OSError:
        return False
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    locks = (line.split() for line in host.read("proc/locks").splitlines())
    return any("FLOCK" in words and place in words for words in locks)


CHECKS: dict[str, Check] = {
    "run directory": run_directory,
    "logs": log_directory,
    "keys": keys,
    "settings": settings,
    "apps": apps,
    "daemon": daemon,
    "stale files": stale,
    "leftovers": leftovers,
}
