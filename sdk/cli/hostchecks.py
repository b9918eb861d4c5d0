"""What `warmd doctor` looks at on the machine itself: Python, kernel, limits, memory."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from warmd.cli.findings import Check, Host, Level
from warmd.cli.talk import size
from warmd.daemon.cgroup import delegated

Said = Iterator[tuple[Level, str]]

LEAST_PYTHON = (3, 11)
LEAST_KERNEL = (5, 4)
"""Has `waitid(P_PIDFD)`."""
LIBRARIES = ("loky", "msgpack", "pyzmq", "psutil", "click")
FEW_DESCRIPTORS = 4096
"""256 sessions with five each, as many clients, and half of all kept for connections."""
LITTLE_MEMORY_BYTES = 512 * 2**20
LITTLE_SHM_BYTES = 256 * 2**20
REAPERS = ("systemd", "init", "tini", "dumb-init", "docker-init", "catatonit", "s6-svscan", "runit")
PR_GET_PDEATHSIG = 2


def python(host: Host) -> Said:
    version = ".".join(map(str, host.python))
    if host.python < LEAST_PYTHON:
        yield "bad", f"Python {version} is too old: install 3.11 or newer"
    else:
        yield "ok", f"Python {version}"


def libraries(_host: Host) -> Said:
    """The five that the core needs, and what libzmq was built with."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            yield "bad", f"{name} is not installed: run `pip install --force-reinstall warmd`"
    yield "ok", ", ".join(found)
    import zmq

    if not zmq.has("ipc"):
        yield "bad", "libzmq was built without ipc: install pyzmq from a wheel (`pip install pyzmq`)"
    if not zmq.has("curve"):
        yield "warn", "libzmq was built without CURVE, so TCP cannot be used: install pyzmq from a wheel"


def descriptors(_host: Host) -> Said:
    """How many files a daemon may have open; it raises its own limit as far as that goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < FEW_DESCRIPTORS:
        yield (
            "bad" if hard < FEW_DESCRIPTORS // 8 else "warn",
            f"a daemon may open {hard} files at most (RLIMIT_NOFILE), and wants {FEW_DESCRIPTORS} for 256 "
            "sessions: raise the hard limit (`ulimit -Hn`, LimitNOFILE= of a systemd unit, --ulimit nofile= "
            "of a container)",
        )
    else:
        most = "any number of" if hard < 0 else str(hard)
        yield "ok", f"a daemon may open {most} files (the limit is {soft} here, and a daemon raises it)"


def kernel(_host: Host) -> Said:
    """What processes are started and watched with."""
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < LEAST_KERNEL:
        yield "bad", f"Linux {release} is too old: 5.4 or newer is needed"
    missing = [name for name, works in (("pidfd_open", _pidfd), ("memfd_create", _memfd)) if not works()]
    if ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(ctypes.c_int())) != 0:
        missing.append("PR_SET_PDEATHSIG")
    if missing:
        yield (
            "bad",
            f"this system refuses {', '.join(missing)}: allow it in the seccomp profile of the container, or "
            "use a newer Python and kernel",
        )
    else:
        yield "ok", f"Linux {release} with pidfd_open, memfd_create and PR_SET_PDEATHSIG"


def _pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError):
        return False
    return True


def _memfd() -> bool:
    try:
        os.close(os.memfd_create("warmd-doctor"))
    except (OSError, AttributeError):
        return False
    return True


def proc(host: Host) -> Said:
    """Process trees are found by what /proc says of their environment."""
    if not (host.proc / "self" / "environ").exists():
        yield "bad", f"{host.proc} is not mounted: children of workers could not be found; mount it"
        return
    options = [line for line in host.read("proc/self/mountinfo").splitlines() if " /proc " in line]
    hidden = next(
        (word for line in options for word in line.replace(",", " ").split() if "hidepid=" in word), ""
    )
    if hidden.partition("=")[2] in ("4", "ptraceable"):
        yield "bad", f"/proc is mounted with {hidden}: children of workers cannot be found; use hidepid=2"
    else:
        yield "ok", f"/proc is mounted{f' with {hidden}, which is no hindrance' if hidden else ''}"


def cgroup(host: Host) -> Said:
    """Which memory limit holds for all together, and whether the kernel says whom it has killed for it."""
    lines = host.read("proc/self/cgroup").splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/").lstrip("/")
    folder = f"sys/fs/cgroup/{own}"
    if "oom_kill " not in host.read(f"{folder}/memory.events") + host.read("proc/vmstat"):
        yield (
            "warn",
            "the kernel does not say how often it killed for lack of memory, so such a death is told as a "
            "plain SIGKILL: run the daemon where /proc/vmstat or a cgroup v2 with the memory controller "
            "can be read",
        )
        return
    most = host.read(f"{folder}/memory.max").strip()
    limit = f"limits all processes here to {size(int(most))}" if most.isdigit() else "sets no limit"
    given = delegated(host.root)
    if given is None:
        trees = "none is delegated, so trees are found by their tokens and memory is measured"
    else:
        trees = f"{given} is delegated: each worker gets a cgroup of its own there"
    yield "ok", f"the cgroup {limit}; {trees}"


def container(host: Host) -> Said:
    """Two things that containers often lack."""
    inside = any((host.root / path).exists() for path in (".dockerenv", "run/.containerenv"))
    first = host.read("proc/1/comm").strip()
    if inside and first not in REAPERS:
        yield (
            "warn",
            f"pid 1 of this container is {first or 'unknown'}, which may not reap what a dying daemon "
            "orphans: start the container with --init",
        )
    shm = _space(host.root / "dev/shm")
    if shm is not None and shm < LITTLE_SHM_BYTES:
        yield (
            "warn",
            f"/dev/shm holds {size(shm)}, little for apps that share tensors: start the container with "
            "--shm-size=1g",
        )
    yield "ok", f"this {'is' if inside else 'is not'} a container"


def _space(path: Path) -> int | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize


def memory(host: Host) -> Said:
    """What is free now."""
    words = [line.split() for line in host.read("proc/meminfo").splitlines()]
    kib = {word[0].rstrip(":"): int(word[1]) for word in words if len(word) > 1}
    available, swap = kib["MemAvailable"] * 1024, kib.get("SwapFree", 0) * 1024
    text = f"{size(available)} of memory and {size(swap)} of swap are free"
    if available < LITTLE_MEMORY_BYTES:
        yield "warn", f"{text}: sessions may be killed; end some (`warmd ps`, `warmd end`)"
    else:
        yield "ok", text


def temporary(host: Host) -> Said:
    folder = Path(host.environ.get("TMPDIR") or "/tmp")
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield "ok", f"temporary files can be made in {folder}"
    except OSError as error:
        yield "bad", f"no file can be made in {folder}: {error.strerror}; free it or set TMPDIR"


def logout(host: Host) -> Said:
    """What becomes of a daemon when its user logs out, where systemd rules."""
    if not (host.root / "run/systemd/system").is_dir() or not host.environ.get("XDG_SESSION_ID"):
        yield "ok", "this is no login session of systemd: a daemon is not ended by a logout"
        return
    user = pwd.getpwuid(os.getuid()).pw_name
    lingers = (host.root / "var/lib/systemd/linger" / user).exists()
    kills = any(
        line.strip().lower() in ("killuserprocesses=yes", "killuserprocesses=true", "killuserprocesses=1")
        for line in _logind(host).splitlines()
    )
    if lingers and not kills:
        yield "ok", f"user {user} lingers: the daemon outlives a logout"
    else:
        why = "KillUserProcesses=yes" if kills else "the runtime directory goes with the last login"
        yield (
            "warn",
            f"a logout ends the daemon or takes its socket away ({why}): run `loginctl enable-linger {user}`"
            + (", and start it as a systemd user service" if kills else ""),
        )


def _logind(host: Host) -> str:
    parts = sorted((host.root / "etc/systemd/logind.conf.d").glob("*.conf"))
    return "\n".join([host.read("etc/systemd/logind.conf"), *(part.read_text() for part in parts)])


CHECKS: dict[str, Check] = {
    "python": python,
    "libraries": libraries,
    "kernel": kernel,
    "descriptors": descriptors,
    "memory": memory,
    "cgroup": cgroup,
    "proc": proc,
    "temporary": temporary,
    "container": container,
    "logout": logout,
}
