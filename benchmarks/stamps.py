"""An app that tells when it is called, on the clock that all processes of a machine share."""

from __future__ import annotations

import time


class Stamps:
    def run(self) -> float:
        return time.monotonic()
