"""How the end of a process is told."""

from __future__ import annotations

from typing import Any

from warmd.daemon.core.events import OutOfMemory, WorkerExited


def described(event: WorkerExited, lost_link: str | None = None) -> tuple[str, dict[str, Any]]:
    """A clause about the worker, and the facts for an error's details.

    `lost_link`: what was the matter with its link before, if that is why it was killed.
    """
    details: dict[str, Any] = {"log_tail": event.log_tail} if event.log_tail else {}
    if event.signal is not None:
        details["signal"] = event.signal
        how = f"its worker was killed by {event.signal}"
    else:
        details["exit_code"] = event.exit_code
        how = f"its worker exited with code {event.exit_code}"
    if event.out_of_memory is not None:
        details |= _memory_details(event.out_of_memory)
        how = _out_of_memory(event.out_of_memory, how)
    elif lost_link is not None and event.signal == "SIGKILL":
        how = f"its worker {lost_link} and was killed"
    return how, details


def _memory_details(found: OutOfMemory) -> dict[str, Any]:
    if found.cause == "kernel":
        return {"out_of_memory": True}
    return {"out_of_memory": True, "used": found.used_bytes, "limit": found.limit_bytes}


def _out_of_memory(found: OutOfMemory, how: str) -> str:
    if found.cause == "kernel":
        return (
            f"{how}, most likely by the kernel because memory ran out: "
            "it has killed for that reason since the worker started"
        )
    used, limit = found.used_bytes / 2**20, found.limit_bytes / 2**20
    whose = "worker_memory, or the app's own memory"
    return f"{how}, out of memory: {used:.0f} MiB used, limit {limit:g} MiB ({whose})"
