"""The server of examples/typescript as a process, as `npm start` runs it once the page is built."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "typescript"
PROGRAMS = EXAMPLE / "node_modules" / ".bin"
STOP_SECONDS = 10.0


def environment(url: str, key: str | None, **more: Any) -> dict[str, str]:
    """That of a script of the example; without tsx's cache, which would lie among the temporary files."""
    named = {"WARMD_URL": url, "WARMD_KEY": key, "TSX_DISABLE_CACHE": "1", **more}
    return {**os.environ, **{name: str(value) for name, value in named.items() if value is not None}}


class Express:
    """`url` is where it listens.  `session_timeout`: that of the session API, in seconds."""

    def __init__(self, gateway_url: str, key: str, session_timeout: int = 60) -> None:
        self.process = subprocess.Popen(
            ["node", "--import", "tsx", "server/main.ts"],
            cwd=EXAMPLE,
            env=environment(gateway_url, key, PORT=0, SESSION_TIMEOUT=session_timeout),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the server did not start"

    def __enter__(self) -> Express:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.terminate()
            self.process.wait(STOP_SECONDS)
