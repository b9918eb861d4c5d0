"""What the daemon holds for one worker's process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmd.daemon.core.events import OutOfMemory
from warmd.daemon.launch import new_token
from warmd.daemon.stacks import StackCapture
from warmd.daemon.worker.page import ControlPage, create_stack_file
from warmd.protocol.messages import SessionId
from warmd.protocol.work import WorkerId


@dataclass(slots=True)
class Worker:
    """What is held for one worker, or template, until it is forgotten."""

    id: WorkerId
    session: SessionId
    token: str
    page: ControlPage
    stack_fd: int
    python: str | None = None
    """The app's own interpreter."""
    log_path: str = ""
    memory_bytes: int | None = None
    """What it and its children may use."""
    pid: int = 0
    pidfd: int = -1
    exited: bool = False
    template: WorkerId | None = None
    """What it is forked from: its pid is known when it, or that, says so."""
    given: bool = False
    """It was a template, and its process is another worker's now."""
    cgroup: Path | None = None
    sweep: str = "none"
    """none, running, done, told"""
    out_of_memory: OutOfMemory | None = None
    kernel_kills: int | None = None
    """How often the kernel had killed for memory when it started."""
    capture: StackCapture | None = None
    look: StackCapture | None = None
    """The same for somebody who is only curious."""


def new_worker(id: WorkerId, session: SessionId) -> Worker:
    """One that is to be started.  Raises OSError."""
    page = ControlPage.create()
    try:
        stack_fd = create_stack_file()
    except OSError:
        page.close()
        raise
    return Worker(id, session, new_token(), page, stack_fd)
