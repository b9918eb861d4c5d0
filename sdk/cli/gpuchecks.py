"""What `warmd doctor` looks at of GPUs, where there are any: driver, libraries, and who has their memory.

The GPUs are looked at by a helper process, as the daemon does it: a driver that hangs does not hang us.
"""

from __future__ import annotations

import os
import platform
import re
import select
import time
from collections.abc import Iterator, Sequence
from importlib import metadata

from warmd.cli.findings import Check, Host, Level
from warmd.cli.talk import size
from warmd.daemon import config
from warmd.daemon.gpu.driver import NVIDIA, OFF, GpuError, why_unavailable
from warmd.daemon.gpu.nvidia import REMEDY, SIGNS
from warmd.daemon.gpu.process import HelperProcess, Hung, start_helper
from warmd.daemon.gpu.told import Gpu, result_of
from warmd.daemon.gpu.visible import VISIBLE
from warmd.protocol import places
from warmd.protocol.errors import WarmdError

Said = Iterator[tuple[Level, str]]

LEFT_ALONE = why_unavailable(OFF)
NO_DRIVER = "no NVIDIA driver is here"
LIBRARIES = ("nvidia-ml-py", "cuda-bindings")
LEAST_DRIVER = 570
"""Has the functions that move a process's memory to host memory and back."""
SAY = "say in each app.toml what it needs (gpu = ...), or start the container with `--pid=host`"
ALONE = "have apps move it (warmd.gpu.offload, or hooks park and unpark)"
LOOK_SECONDS = 10.0
TOKEN, OWNER = b"WARMD_WORKER_TOKEN=", b"WARMD_DAEMON_PID="


def gpu(host: Host) -> Said:
    """All of it; where there is no GPU one line."""
    driver = _driver(host)
    if driver == OFF:
        yield "ok", LEFT_ALONE
        yield from _otherwise(host, LEFT_ALONE)
    elif driver == NVIDIA and not any((host.root / sign.lstrip("/")).exists() for sign in SIGNS):
        yield "ok", f"{NO_DRIVER}, and none is needed"
        yield from _otherwise(host, NO_DRIVER)
    elif driver == NVIDIA:
        yield from _limits(host)
        missing = [name for name in LIBRARIES if not _is_installed(name)]
        if missing:
            use = "is not looked at" if LIBRARIES[0] in missing else "is moved only by apps themselves"
            yield "warn", f"GPU memory {use}, for want of {' and '.join(missing)}: run `{REMEDY}`"
        if LIBRARIES[0] not in missing:
            yield from _memory(host, driver)
    else:
        yield from _memory(host, driver)


def _otherwise(host: Host, expected: str) -> Said:
    """What the daemon here says, where it was started with other settings."""
    objection = _daemon(host)[2]
    if objection in ("", NO_DRIVER, expected):
        return
    if objection == LEFT_ALONE:
        yield "ok", f"the daemon here was started with another setting: {objection}"
    else:
        remedy = "correct gpu_driver, and start it anew (`warmd stop`)"
        yield "warn", f"the daemon here sees no GPU ({objection}): {remedy}"


def _memory(host: Host, driver: str) -> Said:
    try:
        found = looked(driver)
    except GpuError as error:
        remedy = "look at `nvidia-smi`, or leave GPUs alone (gpu_driver = 'off')"
        yield "bad", f"the GPUs cannot be looked at ({error.message}): {remedy}"
        return
    yield from _seen(host, found)
    yield from _whose(host, found)


def _driver(host: Host) -> str:
    try:
        return config.load({}, host.environ).gpu_driver
    except config.ConfigError:
        return NVIDIA  # what is wrong there is told by the check of the settings


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _limits(host: Host) -> Said:
    """Where the driver moves no memory by itself."""
    line = host.read(SIGNS[1].lstrip("/")).partition("\n")[0]
    version = re.search(r"\b(\d+)(\.\d+)+\b", line)
    if version is not None and int(version[1]) < LEAST_DRIVER:
        remedy = f"update it to {LEAST_DRIVER} or newer, or {ALONE}"
        yield "warn", f"driver {version[0]} moves no GPU memory to host memory and back: {remedy}"
    if platform.machine() != "x86_64":
        text = f"the driver is documented to move GPU memory on x86-64 alone, not on {platform.machine()}"
        yield "warn", f"{text}: {ALONE}"


def looked(driver: str) -> tuple[Gpu, ...]:
    """What is on the GPUs, within 10 s.  Raises GpuError."""
    try:
        helper = start_helper(driver)
    except OSError as error:
        raise GpuError("unavailable", f"the GPU helper cannot be started: {error}") from error
    try:
        helper.send({"id": 1, "do": "look"})
        answer = result_of("look", _answer(helper))
    except (Hung, KeyError, TypeError, ValueError) as error:
        raise GpuError("unavailable", f"the GPU helper says what nobody understands: {error}") from error
    finally:
        helper.end()
    if isinstance(answer, GpuError):
        raise answer
    return tuple(answer)


def _answer(helper: HelperProcess) -> dict[str, object]:
    """Raises GpuError, Hung."""
    until = time.monotonic() + LOOK_SECONDS
    poll = select.poll()
    poll.register(helper.sock, select.POLLIN)
    while poll.poll(max(0.0, until - time.monotonic()) * 1000):
        for answer in helper.answers():
            return dict(answer)
        if helper.reap():
            raise GpuError("unavailable", "the GPU helper has died of it")
    raise GpuError("unavailable", f"the driver has not answered within {LOOK_SECONDS:g} s")


def _seen(host: Host, found: Sequence[Gpu]) -> Said:
    named = host.environ.get(VISIBLE)
    if not found and named is not None:
        yield "warn", f"{VISIBLE}={named!r} leaves no GPU: unset it where the daemon is started"
    elif not found:
        yield "warn", "the driver shows no GPU: look at `nvidia-smi`, and at the devices of the container"
    else:
        shown = [f"GPU {one.index} ({one.name}), {_fill(one)}" for one in found]
        left = "" if named is None else f"; {VISIBLE}={named!r} leaves no other"
        yield "ok", "; ".join(shown) + left


def _fill(gpu: Gpu) -> str:
    return f"{size(gpu.used_bytes)} of {size(gpu.total_bytes)} used"


def _whose(host: Host, found: Sequence[Gpu]) -> Said:
    """Memory that no session has: what is left of one, and other programs."""
    owners = _owners(host)
    daemon, sessions, objection = _daemon(host)
    if found and objection:
        yield "warn", f"the daemon here sees no GPU ({objection}): start it anew (`warmd stop`)"
    if not all(one.shows_processes for one in found):
        yield "warn", f"the driver does not know the pids of this container, nor who has GPU memory: {SAY}"
        return
    others = []
    for index, process in [(one.index, process) for one in found for process in one.processes]:
        pid, token = process.pid, process.token.encode()
        has = f"{size(process.bytes) if process.bytes else 'memory'} of GPU {index}"
        owner = owners.get(token)
        is_ours = owner is not None and owner == daemon
        if is_ours and (sessions is None or token in sessions):
            continue
        if is_ours or (owner is not None and not (host.proc / owner).exists()):
            yield (
                "bad",
                f"process {pid} has {has} and belongs to no session any more: `kill -9 {pid}` ends it",
            )
        else:
            others.append(f"process {pid} {has}" + (f" (of the daemon with pid {owner})" if owner else ""))
    if others:
        yield "ok", f"not of sessions here: {', '.join(others)}"


def _daemon(host: Host) -> tuple[str, set[bytes] | None, str]:
    """Of the daemon here: its pid, the tokens of its processes, and why it sees no GPUs.

    Where none answers: an empty pid, None and an empty text.
    """
    from warmd.cli.link import running_daemon
    from warmd.client import Client

    address = host.address or places.address_of(places.socket_path(host.run_dir))
    if address.startswith(places.TCP_SCHEME):
        return "", None, ""
    try:
        with Client(address) as client:
            found = running_daemon(client)
            infos = client.sessions.list() if found else []
    except WarmdError:
        return "", None, ""
    if found is None:
        return "", None, ""
    pids = [one["pid"] for one in [*infos, *(found.get("templates") or [])]]
    tokens = {_variable(host, str(pid), TOKEN) for pid in pids if pid}
    return str(found["pid"]), tokens, found.get("no_gpus") or ""


def _owners(host: Host) -> dict[bytes, str]:
    """The pid of the daemon of each worker on this machine, by the worker's token."""
    pids = [name for name in os.listdir(host.proc) if name.isdigit()]
    tokens = ((pid, _variable(host, pid, TOKEN)) for pid in pids)
    return {token: os.fsdecode(_variable(host, pid, OWNER)) for pid, token in tokens if token}


def _variable(host: Host, pid: str, name: bytes) -> bytes:
    """Of a process's environment; empty where it has none, or is not ours."""
    try:
        pairs = (host.proc / pid / "environ").read_bytes().split(b"\0")
    except OSError:
        return b""
    return next((pair[len(name) :] for pair in pairs if pair.startswith(name)), b"")


CHECKS: dict[str, Check] = {"gpu": gpu}
