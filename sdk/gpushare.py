"""Weights that the sessions of an app share on one GPU; `warmd.gpu.share`.

The memory is a third process's (`gpuholder`), so it outlives the session that has made what is in there.
A session copies its tensors into that memory, or finds them there.  All map the same: nobody may write.

Whoever maps it cannot go on without the holder: the driver does not say what a mapping is worth whose owner
has died.  So a thread waits for the end of the connection, and ends the process by it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from warmd import gpuholder
from warmd.app import FOLDER_VARIABLE, context
from warmd.gpuipc import Mapped
from warmd.gpulayout import Tensors, fingerprint_of, layout, tensors_of, views

EXCLUSION = "its weights are shared with other sessions (warmd.gpu.share)"
START_SECONDS = 20.0
AGAIN_SECONDS = 0.05
MOST_ENDED = 20
"""Holders that end before they have said anything; then another one would, too."""
TOKEN_VARIABLE = "WARMD_WORKER_TOKEN"
DAEMON_VARIABLE = "WARMD_DAEMON_PID"
RUN_DIR_VARIABLE = "WARMD_RUN_DIR"
_BOOT = (
    "import sys, types; warmd = types.ModuleType('warmd'); warmd.__path__ = [sys.argv[1]]; "
    "sys.modules['warmd'] = warmd; from warmd.gpuholder import main; main()"
)


class ShareError(RuntimeError):
    """Weights could not be shared: the text says why."""

    __module__ = "warmd.gpu"


def share(key: str, make: Callable[[], Any], *, device: Any = None, seconds: float = 600.0) -> Tensors:
    """The tensors that `make()` gives, in memory of a GPU that all sessions of this app there share.

    The first session that asks for `key` calls `make`, which gives a dict of tensors or a module (of which
    it is the state); the others wait for that, up to `seconds`, and map the same memory.  `make` gives them
    in host memory best: from GPU memory they are copied, and are there twice meanwhile.  The memory is free
    again some seconds after the last of these sessions.  Nobody may write to it.

    The key says which weights: what differs needs another one.  To be called in `setup`, or in a function.
    The driver can then no longer park the session (`exclusions`); what it has for itself can be offloaded.
    Elsewhere than in a session nothing is shared: these are `make`'s own tensors, on the GPU.

    Raises ShareError, TypeError for what is no dict of tensors, RuntimeError where torch has no GPU, and
    what `make` raises.
    """
    if not isinstance(key, str) or not callable(make):
        raise TypeError(f"share(key, make) takes a text and a function, not {key!r} and {make!r}")
    if context._runtime is not None:
        return _sharing().share(key, make, device, seconds)
    if os.environ.get(TOKEN_VARIABLE):
        raise ShareError(
            "share() uses the GPU, for the process of one session: call it in setup or in a function, not "
            "while the app is imported, in prepare() or in a child process"
        )
    place = Mapped().place(device)[1]
    return {name: one.to(place) for name, one in tensors_of(make()).items()}


_sharings: list[Sharing] = []


def _sharing() -> Sharing:
    if not _sharings:
        _sharings.append(Sharing(Mapped(), f"{os.environ.get(RUN_DIR_VARIABLE)}\0{context.app}"))
    return _sharings[0]


@dataclass(frozen=True, slots=True)
class _Mapping:
    fingerprint: str
    tensors: Tensors


class Sharing:
    """What one process shares.  `space`: among whom.  Not for use in several threads."""

    def __init__(self, mapped: Mapped, space: str) -> None:
        self._mapped = mapped
        self._space = space
        self._mine: dict[str, _Mapping] = {}

    def share(self, key: str, make: Callable[[], Any], device: Any = None, seconds: float = 600.0) -> Tensors:
        """As `warmd.gpu.share`, which says more."""
        id, place = self._mapped.place(device)
        address, made = self._address(id, key), fingerprint_of(make)
        if address not in self._mine:
            talk = _Talk(key, time.monotonic() + seconds)
            try:
                found = self._joined(talk, address, made, make, place, id)
            except BaseException:
                talk.close()
                raise
            self._mine[address] = _Mapping(made, found)
            _exclude()
            threading.Thread(target=talk.end_with_holder, name="warmd-gpu-share", daemon=True).start()
        elif self._mine[address].fingerprint != made:
            raise _other(key)
        return dict(self._mine[address].tensors)

    def _address(self, gpu: str, key: str) -> str:
        whose = f"{os.getuid()}\0{self._space}\0{gpu}\0{key}"
        return f"warmd-gpu-{hashlib.sha256(whose.encode()).hexdigest()[:32]}"

    def _joined(
        self, talk: _Talk, address: str, made: str, make: Callable[[], Any], place: Any, gpu: str
    ) -> Tensors:
        for _ in range(MOST_ENDED):
            if (answer := self._asked(talk, address, made, gpu)) is not None:
                break
            time.sleep(AGAIN_SECONDS)
        else:
            raise ShareError(f"the process to hold {talk.key!r} has ended {MOST_ENDED} times")
        if answer["say"] == "make":
            found = self._filled(talk, tensors_of(make()), place)
            self._mapped.release()
            return found
        if answer["say"] != "ready":
            raise _other(talk.key)
        whole = self._mapped.open(answer["handle"], answer["bytes"], place)
        return views(whole, answer["tensors"])

    def _asked(self, talk: _Talk, address: str, made: str, gpu: str) -> Any:
        """What the holder says; None where it has ended meanwhile, and another must be found."""
        while not talk.connected(address):
            start_holder(address, self._mapped, gpu, talk.left())
        try:
            talk.say({"do": "join", "make": made})
            return talk.heard()
        except ConnectionError:
            talk.left()
            return None

    def _filled(self, talk: _Talk, tensors: Tensors, place: Any) -> Tensors:
        size_bytes, described = layout(tensors)
        try:
            talk.say({"do": "allocate", "bytes": size_bytes, "tensors": described})
            answer = talk.heard()
            if answer["say"] != "filling":
                raise ShareError(f"{size_bytes} bytes for {talk.key!r} could not be had: {answer['why']}")
            whole = self._mapped.open(answer["handle"], size_bytes, place)
            try:
                found = views(whole, described)
                for name, view in found.items():
                    view.copy_(tensors[name].detach())
                self._mapped.wait(place)
                talk.say({"do": "filled"})
            except BaseException:
                self._mapped.close(whole)
                raise
        except ConnectionError as error:
            raise ShareError(f"the holder of {talk.key!r} has died while it was filled") from error
        return found


class _Talk:
    """One connection to a holder, and until when it may take."""

    def __init__(self, key: str, until: float) -> None:
        self.key = key
        self._until = until
        self._sock: socket.socket | None = None
        self._read = bytearray()

    def left(self) -> float:
        """Seconds.  Raises ShareError where there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise ShareError(
                f"weights for {self.key!r} were not there in time: another session of this app is still at "
                "it; give share() more `seconds`, or look at that session's log"
            )
        return left

    def connected(self, address: str) -> bool:
        """Whether there is a holder.  Raises ShareError where it is another user's."""
        self.close()
        self._read.clear()
        self._sock = sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.left())
            sock.connect(b"\0" + address.encode())
        except (ConnectionError, BlockingIOError):
            return False
        except TimeoutError:
            self.left()
            return False
        if (user := gpuholder.user_of(sock)) != os.getuid():
            raise ShareError(f"the name for {self.key!r} is taken by user {user}: choose another key")
        return True

    def say(self, message: Mapping[str, Any]) -> None:
        """Raises ConnectionError, ShareError."""
        assert self._sock is not None
        try:
            self._sock.settimeout(self.left())
            self._sock.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError:
            self.left()
            raise

    def heard(self) -> Any:
        """The holder's next word.  Raises ConnectionError where it has ended, ShareError."""
        assert self._sock is not None
        while (end := self._read.find(b"\n")) < 0:
            self._sock.settimeout(self.left())
            try:
                data = self._sock.recv(gpuholder.READ_BYTES)
            except TimeoutError:
                continue
            if not data:
                raise ConnectionResetError("the holder has ended")
            self._read += data
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        return json.loads(line)

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()

    def end_with_holder(self) -> None:
        """Waits for the holder's end, for ever, and ends this process by it."""
        assert self._sock is not None
        self._sock.settimeout(None)
        try:
            while self._sock.recv(gpuholder.READ_BYTES):
                pass
        except OSError:
            pass
        _end(self.key)


def _end(key: str) -> NoReturn:
    text = f"the process that held the shared weights {key!r} has died, and what is mapped of it is lost\n"
    os.write(2, text.encode())
    os._exit(1)


def start_holder(address: str, mapped: Mapped, gpu: str, seconds: float) -> None:
    """Have a holder at that address, if there is none.  Raises ShareError."""
    daemon = os.environ.get(DAEMON_VARIABLE, "") if context._runtime is not None else ""
    folder = os.path.dirname(os.path.abspath(__file__))
    given = [folder, address, mapped.file, mapped.argument, str(mapped.linger_seconds), daemon]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _BOOT, *given],
            env=_environment(gpu),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=min(seconds, START_SECONDS),
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ShareError(f"a process to hold shared weights could not be started: {error}") from error
    if done.returncode:
        raise ShareError(f"the process to hold shared weights has failed: {done.stderr.strip()[-2000:]}")


def _environment(gpu: str) -> dict[str, str]:
    """A token of its own, so that nobody takes it for a part of the session that starts it."""
    not_its_own = (FOLDER_VARIABLE, "WARMD_SESSION_ID", "WARMD_APP")
    kept = {name: value for name, value in os.environ.items() if name not in not_its_own}
    token = {TOKEN_VARIABLE: secrets.token_hex(32)} if TOKEN_VARIABLE in kept else {}
    return {**kept, **token, "CUDA_VISIBLE_DEVICES": gpu}


def _exclude() -> None:
    from warmd import gpu

    if EXCLUSION not in gpu.exclusions:
        gpu.exclusions.append(EXCLUSION)


def _other(key: str) -> ShareError:
    return ShareError(
        f"the key {key!r} stands for what another function has made: give each its own key (after an edit "
        "of the function, one with a version in it)"
    )
