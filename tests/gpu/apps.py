"""Processes that use the fake GPUs, and say what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from warmd.daemon.launch import TOKEN_VARIABLE

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from tests.fakegpu import FakeCuda
cuda = FakeCuda()
for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        if name == "alloc":
            arguments[1] = arguments[1].encode()
        if name == "work":
            with cuda.work():
                print("true", flush=True)
                sys.stdin.readline()
            result = True
        else:
            result = getattr(cuda, name)(*arguments)
        print(json.dumps(result.decode() if isinstance(result, bytes) else result), flush=True)
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]), flush=True)
"""


class App:
    """One process; with a token it is of that worker's tree."""

    def __init__(self, token: str = "", program: str = PROGRAM, **env: str) -> None:
        own = {TOKEN_VARIABLE: token} if token else {}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **own, **env},
        )
        self.pid = self.process.pid

    def ask(self, *words: Any) -> Any:
        """Have it call a method of its FakeCuda: the result, or [the error's class, its text]."""
        self.begin(*words)
        return self.answer()

    def begin(self, *words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def running(*apps: App) -> Iterator[None]:
    try:
        yield
    finally:
        for app in apps:
            app.end()
