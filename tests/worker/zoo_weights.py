"""An app of torch whose weights are in host memory before it is forked."""

from __future__ import annotations

import gc
import os
from typing import Any

import torch

import warmd
from warmd.gpumemory import Cuda

MIB = 2**20


class Weights:
    weights: Any

    @classmethod
    def prepare(cls) -> None:
        # Large enough for torch to compute it with all its threads.
        cls.threads = torch.get_num_threads()
        cls.weights = torch.ones(200 * MIB // 4).mul_(2).view(-1, 1024)

    def run(self) -> dict[str, Any]:
        x = torch.ones(1024, 256)
        found = (self.weights[:8192] @ x).sum(dtype=torch.float64).item()
        threads = torch.get_num_threads()
        return {"sum": found, "threads": threads, "threads_in_prepare": self.threads}

    def memory(self) -> dict[str, int]:
        """What the kernel has of this process's memory, in bytes."""
        with open("/proc/self/smaps_rollup") as file:
            lines = [line.split() for line in file if line.endswith("kB\n")]
        return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}

    def tasks(self) -> int:
        return len(os.listdir("/proc/self/task"))


class Offloaded:
    """Keeps its weights by `warmd.gpu`, with host memory in place of a GPU's."""

    def setup(self) -> None:
        Cuda.moves = lambda *_: True  # type: ignore[method-assign]
        Cuda.pinned_empty = lambda _, size: torch.empty(size, dtype=torch.uint8)  # type: ignore[method-assign]
        Cuda.wait = Cuda.release = lambda *_: None  # type: ignore[method-assign]
        torch.manual_seed(1)
        self.net = torch.nn.Linear(500, 500)
        warmd.gpu.offload(self.net)

    def run(self) -> float:
        return float(self.net(torch.ones(500)).double().sum().item())

    def storage_bytes(self) -> int:
        return int(self.net.weight.untyped_storage().nbytes())

    def fail(self) -> None:
        """The next time there is too little memory."""
        resize = Cuda.resize

        def short(self: Cuda, storage: Any, size_bytes: int) -> None:
            if size_bytes == 2000:  # of the bias, which comes after the weight
                Cuda.resize = resize  # type: ignore[method-assign]
                raise torch.OutOfMemoryError("tried to allocate")
            resize(self, storage, size_bytes)

        Cuda.resize = short  # type: ignore[method-assign]

    def drop(self) -> int:
        del self.net
        gc.collect()
        return len(warmd.gpu.registered())
