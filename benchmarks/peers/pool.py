"""What the two process pools have in common: one worker, whose module holds the state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from benchmarks.peers import CALL_SECONDS, Peer, work


class Pool(Peer):
    kind = "pool"
    no_pipeline = ""
    _executor: Executor | None = None

    @abstractmethod
    def executor(self) -> Executor:
        """A new pool with one worker."""

    def open(self) -> None:
        self._executor = self.executor()

    def call(self, by: int) -> int:
        return int(self.begin(by).result(CALL_SECONDS)["n"])

    def begin(self, by: int) -> Any:
        assert self._executor is not None
        return self._executor.submit(work.incr, by)

    def echo(self, array: Any) -> Any:
        assert self._executor is not None
        return self._executor.submit(work.echo, array).result(CALL_SECONDS)

    def new_session(self) -> Callable[[], object]:
        executor = self.executor()
        executor.submit(work.incr, 1).result(CALL_SECONDS)
        return executor.shutdown

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()
