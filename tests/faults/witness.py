"""A neighbour of the fault tests, in a process of its own: `python witness.py ADDRESS APP`.

It calls a session every few milliseconds until its stdin ends, then prints how long the slowest call
took, in seconds.  The time that the machine let the processes of this path wait for a processor is not
counted: that is its load, and nobody's doing here.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

import warmd

EVERY_SECONDS = 0.003


def main(address: str, app: str) -> None:
    with warmd.Client(address) as client, client.session(app) as session:
        pids = (os.getpid(), client.status().pid, session.call("run").output["pid"])

        def took() -> float:
            before, began = _waits(pids), time.monotonic()
            session.call("run")
            seconds = time.monotonic() - began
            after = _waits(pids)
            # Of a process whose threads share an interpreter, whichever waited longest held up all.
            lost = [
                max(now - then.get(at, 0) for at, now in both.items())
                for both, then in zip(after, before, strict=True)
            ]
            return seconds - sum(lost)

        took()
        print("ready", flush=True)
        slowest = 0.0
        while not select.select([sys.stdin], [], [], EVERY_SECONDS)[0]:
            slowest = max(slowest, took())
        print(slowest)


def _waits(pids: tuple[int, ...]) -> list[dict[str, float]]:
    """For each process, how long each of its threads has been ready but did not run, in seconds."""
    return [{task.name: _wait(task) for task in Path(f"/proc/{pid}/task").iterdir()} for pid in pids]


def _wait(task: Path) -> float:
    try:
        return int((task / "schedstat").read_text().split()[1]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


if __name__ == "__main__":
    main(*sys.argv[1:])
