"""Apps that load what all their sessions share before there is one."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any


class Counts:
    """Its sessions see in which process `prepare` ran, and how often."""

    ran: list[int]

    @classmethod
    def prepare(cls) -> None:
        print("prepare is printed")
        cls.ran = [*getattr(cls, "ran", []), os.getpid()]

    def __init__(self) -> None:
        self.known = list(self.ran)

    def run(self) -> list[int]:
        return self.known


class Raises:
    @classmethod
    def prepare(cls) -> None:
        raise ValueError("no weights here")

    def run(self) -> None: ...


class NoClassmethod:
    def prepare(self) -> None: ...


class Demands:
    @classmethod
    def prepare(cls, path: str, verbose: bool = True) -> None: ...


class Async:
    @classmethod
    async def prepare(cls) -> None: ...


class ShowsBar:
    """As libraries do while they load weights."""

    @classmethod
    def prepare(cls) -> None:
        from tqdm import tqdm
        from tqdm.auto import tqdm as other

        cls.sum = sum(tqdm(range(10))) + sum(other(range(10)))

    def run(self) -> list[Any]:
        import threading

        from tqdm import tqdm

        return [self.sum, sum(tqdm(range(5))), [one.name for one in threading.enumerate()]]


class TakesGpu:
    """As far as torch says, which is not there."""

    @classmethod
    def prepare(cls) -> None:
        torch: Any = ModuleType("torch")
        torch.cuda = ModuleType("torch.cuda")
        torch.cuda.is_initialized = lambda: True
        sys.modules["torch"] = torch
