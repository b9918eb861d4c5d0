"""Drives a loop inside a test, one turn at a time, until something is so."""

from __future__ import annotations

import time
from collections.abc import Callable

from warmd.daemon.loop import Loop

PATIENCE_SECONDS = 10.0


def turn_until(loop: Loop, so: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Turns `loop` until `so()`; fails the test after `seconds`."""
    until = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < until, f"not so within {seconds} s"
        # What `so` looks at may happen outside of the loop, which would not wake for it.
        look_again = loop.call_in(0.01, lambda: None)
        loop.turn()
        look_again.cancel()


def turn_for(loop: Loop, seconds: float) -> None:
    """Turns `loop` for that long: for what must not happen."""
    over: list[bool] = []
    loop.call_in(seconds, lambda: over.append(True))
    turn_until(loop, lambda: over)
