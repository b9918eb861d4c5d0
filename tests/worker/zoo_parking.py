"""Apps whose GPU memory goes and comes, without a GPU: what stands in for torch and `warmd.gpu` counts."""

from __future__ import annotations

import asyncio
import os
import sys
from types import SimpleNamespace
from typing import Any


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


class Hooks:
    """Notes what it is asked; `fail` says what raises what, once."""

    def setup(self, fail: dict[str, str] | None = None, **_: Any) -> None:
        self.fail = dict(fail or {})
        self.done: list[str] = []

    def park(self) -> Any:
        self._do("park")
        if self.fail.pop("awaited", ""):
            return self._later()  # without saying that it is async
        return None

    def unpark(self) -> None:
        self._do("unpark")

    def _do(self, what: str) -> None:
        self.done.append(what)
        print(f"{what} is printed")
        raised = self.fail.pop(what, "")
        if raised == "memory":
            raise OutOfMemoryError("tried to allocate 2 GiB")
        if raised == "cause":
            raise ValueError("no weights") from OutOfMemoryError("tried to allocate 2 GiB")
        if raised == "exit":
            raise SystemExit(3)
        if raised == "fork":
            if os.fork():
                os.wait()
        elif raised:
            raise ValueError(f"{raised} in {what}")

    async def _later(self) -> None: ...

    def facts(self) -> list[str]:
        return self.done

    def then(self, fail: dict[str, str]) -> None:
        self.fail = fail

    def again(self, fail: dict[str, str] | None = None, **_: Any) -> None:
        """As after `setup`."""
        self.fail, self.done = dict(fail or {}), []


class AsyncHooks(Hooks):
    async def park(self) -> None:
        await asyncio.sleep(0.01)
        self._do("park")

    async def unpark(self) -> None:
        await asyncio.sleep(0.01)
        self._do("unpark")

    async def cancel_next(self) -> None:
        """The next task is cancelled before it begins, as a background task of the app may do."""
        loop = asyncio.get_running_loop()

        def made(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
            loop.set_task_factory(None)
            task = asyncio.Task(coroutine, loop=loop, **options)
            task.cancel()
            return task

        loop.set_task_factory(made)


class Kept:
    """What `warmd.gpu.offload` gives."""

    def __init__(self, name: str, app: Hooks) -> None:
        self.name, self.app = name, app
        self.parked = False
        self.bytes = 100

    def park(self) -> None:
        self.app._do(f"{self.name} out")
        self.parked = True

    def unpark(self) -> None:
        self.app._do(f"{self.name} back")
        self.parked = False


class Offloads(Hooks):
    """Without hooks of its own, but for those of the class below."""

    park = unpark = None  # type: ignore[assignment]

    def setup(self, **_: Any) -> None:
        super().setup()
        self.all: list[Kept] = []
        registered = lambda: [*self.all]  # noqa: E731
        module: Any = SimpleNamespace(registered=registered, exclusions=[])
        sys.modules["warmd.gpu"] = module

    def again(self, fail: dict[str, str] | None = None, kept: tuple[str, ...] = ("a", "b"), **_: Any) -> None:
        super().again(fail)
        self.all = [Kept(name, self) for name in kept]

    def parked(self) -> list[bool]:
        return [one.parked for one in self.all]


class OffloadsAndHooks(Offloads):
    def park(self) -> None:  # type: ignore[override]
        self._do("park")

    def unpark(self) -> None:  # type: ignore[override]
        self._do("unpark")


class UsesTorch(Hooks):
    """No hooks; CUDA is in use."""

    park = unpark = None  # type: ignore[assignment]

    def setup(self, **_: Any) -> None:
        super().setup()
        cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=lambda: self._do("empty"))
        torch: Any = SimpleNamespace(cuda=cuda)
        sys.modules["torch"] = torch
        self.gpu: Any = SimpleNamespace(registered=list, exclusions=[])
        sys.modules["warmd.gpu"] = self.gpu

    def again(self, fail: dict[str, str] | None = None, exclusions: tuple[str, ...] = (), **_: Any) -> None:
        super().again(fail)
        self.gpu.exclusions = list(exclusions)


class OnlyPark:
    def park(self) -> None: ...


class OnlyUnpark:
    async def unpark(self) -> None: ...


SEEN_AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES")


class Visible:
    def __init__(self) -> None:
        self.at_once = os.environ.get("CUDA_VISIBLE_DEVICES")

    def run(self) -> list[str | None]:
        return [SEEN_AT_IMPORT, self.at_once]


class HangsAtExit:
    """As the exit handlers of GPU libraries do while the driver holds their memory."""

    def setup(self, path: str) -> None:
        import atexit

        self.path = path
        atexit.register(self.note, "exit")

    def note(self, text: str) -> None:
        with open(self.path, "a") as file:
            file.write(text + "\n")

    def unload(self, reason: str) -> None:
        self.note(reason)
        print("unloaded")
