"""A gateway as a process of its own, in front of a daemon of the test's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from warmd.http.bodies import STALL_SECONDS
from warmd.http.connections import HEAD_SECONDS, UNREAD_SECONDS
from warmd.http.options import Options
from warmd.http.streams import REPEAT_SECONDS

CODE = """
import json, os, resource, sys
from pathlib import Path
from warmd.http import bodies, connections, streams
from warmd.http.keys import Keys
from warmd.http.options import Options
from warmd.http.server import serve
address, options, folder, ready, most, *seconds = json.loads(sys.argv[1])
streams.REPEAT_SECONDS, connections.HEAD_SECONDS, connections.UNREAD_SECONDS, bodies.STALL_SECONDS = seconds
if most is not None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
def told(url):
    os.write(ready, url.encode())
    os.close(ready)
serve(Options(**options), address, Path(folder), Keys(Path(folder) / "keys"), told)
"""
PATIENCE_SECONDS = 20.0


class GatewayProcess:
    """`client` asks it.  `repeat_seconds`: after how long a silent run is told of again; `head_seconds`:
    how long the beginning of a request may take; `unread_seconds`: for how long an answer may lie unread
    where there is no room; `stall_seconds`: for how long nothing of a body may come; `descriptors`: how
    many it may have."""

    def __init__(
        self,
        address: str,
        folder: Path,
        *,
        repeat_seconds: float = REPEAT_SECONDS,
        head_seconds: float = HEAD_SECONDS,
        unread_seconds: float = UNREAD_SECONDS,
        stall_seconds: float = STALL_SECONDS,
        descriptors: int | None = None,
        **options: Any,
    ) -> None:
        self.folder = folder
        given = asdict(Options(**{"open": True, "port": 0, **options}))
        ready, ready_end = os.pipe()
        seconds = (repeat_seconds, head_seconds, unread_seconds, stall_seconds)
        argument = json.dumps([address, given, str(folder), ready_end, descriptors, *seconds])
        # Not a pipe, which a chatty child would fill while nobody reads it.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, argument], pass_fds=[ready_end], stderr=self._said
        )
        os.close(ready_end)
        with open(ready) as told:
            self.url = told.read()
        assert self.url, f"the gateway did not start: {self.said()}"
        # Its connection is there before a test begins, and stays: another would be taken for a leak.
        # To load what TLS would be verified with takes longer than most tests, and none speaks it.
        limits = httpx.Limits(keepalive_expiry=None)
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS, limits=limits, verify=False)
        self.client.get("/healthz")

    def said(self) -> str:
        """What it wrote to stderr."""
        self._said.seek(0)
        return self._said.read().decode()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.stop()
        self._said.close()

    def __enter__(self) -> GatewayProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, function: str, input: Any = None, **more: Any) -> Any:
        """The task of a run that goes on."""
        body = {"app": "zoo", "function": function, "input": input, **more}
        answer = self.client.post("/apps/run", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def task(self, id: str) -> Any:
        answer = self.client.get(f"/tasks/{id}")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def run(self, function: str, input: Any = None, **more: Any) -> Any:
        """The task of a run that is over."""
        body = {"app": "zoo", "function": function, "input": input, "wait": True, **more}
        answer = self.client.post("/apps/run", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]
