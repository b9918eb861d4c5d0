"""Locks between processes."""

from __future__ import annotations

import fcntl
import time

RETRY_SECONDS = 0.02


def lock(descriptor: int, seconds: float) -> None:
    """Wait for the open file's lock, which the kernel takes back when the descriptor is closed.

    Raises TimeoutError when another has it for so long: flock has no time-out, and its holder may be stopped.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(f"it was locked for {seconds:g} s") from None
        time.sleep(RETRY_SECONDS)
