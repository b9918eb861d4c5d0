"""The thread that moves the bytes of a ZeroMQ context, and when it has to wait for its turn.

Each message that is sent wakes it, and the kernel lets who wakes up go first: when one message
follows another it interrupts their sender for every single one.  As a SCHED_BATCH thread it does
not interrupt, and finds several messages when its turn comes: a fifth less processor time for a
call.  But on a busy machine that turn can be milliseconds away.  So it waits only in a rush.
"""

from __future__ import annotations

import contextlib
import os
from itertools import count

_numbers = count(1)


class IoThread:
    """A context's one I/O thread.

    The owner gives the context `number` as its THREAD_NAME_PREFIX, by which the thread is found.
    """

    def __init__(self) -> None:
        self.number = next(_numbers)
        self._name = f"{self.number}/ZMQbg/IO/0"[:15]
        self._id: int | None = None
        self._waits_for_its_turn = False
        # Whoever runs under another policy has chosen it.
        self._may_change = os.sched_getscheduler(0) == os.SCHED_OTHER

    def wait_for_its_turn(self, rush: bool) -> None:
        """Whether the thread is to wait; cheap when nothing changes."""
        if rush is not self._waits_for_its_turn and self._may_change:
            self._waits_for_its_turn = rush
            self._set_policy(os.SCHED_BATCH if rush else os.SCHED_OTHER)

    def _set_policy(self, policy: int) -> None:
        # Advice to the kernel: where it is not taken, all works as well.
        with contextlib.suppress(OSError):
            self._id = self._id or self._find()
            os.sched_setscheduler(self._id, policy, os.sched_param(0))

    def _find(self) -> int:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/comm") as file:
                if file.read().rstrip("\n") == self._name:
                    return int(thread)
        raise ProcessLookupError(f"no thread is called {self._name}")
