"""loky: a pool with one worker that is started in a fresh interpreter."""

from __future__ import annotations

from concurrent.futures import Executor

from loky.process_executor import ProcessPoolExecutor

from benchmarks.peers.pool import Pool


class LokyPool(Pool):
    name = "loky"

    def executor(self) -> Executor:
        pool: Executor = ProcessPoolExecutor(max_workers=1)
        return pool
