"""Facts about the machine and the run, to stand beside every figure."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from warmd.cli import machine

PEERS = (
    "numpy", "polars", "torch", "pyro5", "distributed", "jupyter_client", "ipykernel", "fastapi", "uvicorn",
    "ray",
)  # fmt: skip


def machine_facts() -> dict[str, Any]:
    """What `warmd bench` says of the machine, with time, commit, command and the peers' versions."""
    facts = machine.machine_facts((*machine.PACKAGES, *PEERS))
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **facts,
        "packages": {name: version for name, version in facts["packages"].items() if version},
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
