"""`concurrent.futures.ProcessPoolExecutor` with one worker."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor

from benchmarks.peers.pool import Pool


class FuturesPool(Pool):
    name = "concurrent.futures"

    def executor(self) -> Executor:
        # The default from Python 3.14 on; to fork beside the threads of other libraries is unsafe.
        return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver"))
