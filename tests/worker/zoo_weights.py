"""An app of torch whose weights are in host memory before it is forked."""

from __future__ import annotations

import os
from typing import Any

import torch

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
