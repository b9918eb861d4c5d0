"""An app of the zoo that speaks to the daemon itself, past its runtime."""

from __future__ import annotations

import time
from typing import Any

import warmd.app


class Lies:
    """`ordinal` is the number that the daemon gave the call that runs."""

    def run(self) -> str:
        return "true"

    def ordinal(self) -> int:
        return self._runtime().ordinal

    def lie(self, data: bytes, stay_seconds: float = 0.0) -> str:
        """Put these bytes on the link, as they are; then stay in the call for a while."""
        self._runtime().link.socket.sendall(data)
        time.sleep(stay_seconds)
        return "true"

    def _runtime(self) -> Any:
        return warmd.app.context._runtime
