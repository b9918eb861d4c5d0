"""How long until a new session gives its first result, beside a process that does the same once."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any
from unittest.mock import patch

from benchmarks.gpuparts import LLAMA_VARIABLE
from benchmarks.gpuparts.bench import Bench, called, timed
from benchmarks.gpuparts.cards import needs, once
from benchmarks.gpuparts.rows import Found
from warmd.owndaemon import LocalClient

FRESH = "import torch; x = torch.ones(1024, 1024, device='cuda'); print(float((x @ x).sum()))"
FRESH_SECONDS = 120.0
FORKS = 5
"""The first of all pays for what others find done, and is told by itself."""


def first_results(bench: Bench, found: Found) -> None:
    """A product of two matrices, in a session forked from what has imported torch."""
    needs("torch")
    with bench.daemon({"first": ("First", "")}) as client:
        first = _new_session(client, "first", found)
        forks, fresh = [], []
        for _ in range(bench.rounds):
            fresh.append(timed(_fresh)[0])
            forks += [_session(client, "first")[0] for _ in range(FORKS)]
    found.figure("the very first session, which imports torch", first, "s")
    found.figure("a fresh process", statistics.median(fresh), "s")
    found.figure("a new session", statistics.median(forks), "s")
    ratio = statistics.median(fresh) / statistics.median(forks)
    found.target("first CUDA result: a new session against a fresh process", ratio, 15, "x")


def first_tokens(bench: Bench, found: Found) -> None:
    """The first token of a model of 1.1 billion parameters, whose weights `prepare` has loaded."""
    needs("torch", "transformers", "safetensors")
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {LLAMA_VARIABLE: folder}):
        with once("make-llama", folder) as maker:
            found.figure("parameters", maker.first / 1e9, "billion")
        with bench.daemon({"llama": ("Llama", "")}) as client:
            first = _new_session(client, "llama", found)
            sessions, scripts, tokens = [], [], set()
            for _ in range(max(2, bench.rounds - 1)):
                with once("llama") as script:
                    scripts.append(script.seconds)
                    tokens.add(script.first)
                for _ in range(2):
                    seconds, token = _session(client, "llama")
                    sessions.append(seconds)
                    tokens.add(token)
    found.check("all give the same token", len(tokens) == 1, sorted(tokens))
    found.figure("the very first session, which imports and loads", first, "s")
    found.figure("a process that does it once", statistics.median(scripts), "s")
    found.figure("a new session, weights prepared", statistics.median(sessions), "s")
    ratio = statistics.median(scripts) / statistics.median(sessions)
    found.target("first token: a new session against a process that does it once", ratio, 8, "x")


def _new_session(client: LocalClient, app: str, found: Found) -> float:
    """Seconds; what comes after is forked, or the table says why not."""
    seconds, _ = _session(client, app)
    with client.session(app) as session:
        info = session.info()
        found.check("sessions are forked from a template", info.origin == "fork", info.origin)
    return seconds


def _session(client: LocalClient, app: str) -> tuple[float, Any]:
    """A new one's seconds to its first result, and that."""
    begun = time.perf_counter()
    with client.session(app) as session:
        result = called(session, "run")
        return time.perf_counter() - begun, result


def _fresh() -> None:
    command = [sys.executable, "-c", FRESH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FRESH_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"the fresh process has failed:\n{done.stderr[-2000:]}")
