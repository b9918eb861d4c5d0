"""Facts about the machine and the run, to stand beside every figure."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from warmd.cli import machine


def machine_facts() -> dict[str, Any]:
    """What `warmd bench` says of the machine, with time, commit and command."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **machine.machine_facts(),
        "commit": _commit(),
        "command": " ".join(sys.orig_argv),
    }


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
