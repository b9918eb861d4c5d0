"""Servers as child processes: they are there when they have said so, and gone with the block."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

READY_SECONDS = 60.0


@contextlib.contextmanager
def child(module: str, *arguments: str, pass_fds: Sequence[int] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module arguments`, with pipes for its input and output, killed at the block's end."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=pass_fds,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def first_line(process: subprocess.Popen[Any], seconds: float = READY_SECONDS) -> bytes:
    """The next line that it prints.  Raises TimeoutError, and ChildProcessError when it ends instead."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise TimeoutError(f"{process.args!r} has said nothing for {seconds:.0f} s")
    line: bytes = process.stdout.readline()
    if not line:
        raise ChildProcessError(f"{process.args!r} ended with {process.wait(10)}")
    return line
