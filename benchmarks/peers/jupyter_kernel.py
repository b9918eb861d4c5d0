"""A Jupyter kernel, called by jupyter_client over Unix sockets.

The least that it offers: no output is subscribed to, nothing is stored in a history, and the value
comes in the reply itself, as text.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from jupyter_client.manager import KernelManager

from benchmarks.peers import CALL_SECONDS, Peer

PREPARE = "from benchmarks.peers.work import Work\nwork = Work()"


class JupyterKernel(Peer):
    name = "Jupyter kernel"
    kind = "kernel"
    no_arrays = "a kernel answers in text"

    def __init__(self) -> None:
        self._closers: list[Callable[[], object]] = []

    def open(self) -> None:
        self._client, close = self._started()
        self._closers.append(close)

    def _started(self) -> tuple[Any, Callable[[], object]]:
        folder = tempfile.TemporaryDirectory(prefix="kernel-")
        manager = KernelManager(transport="ipc", ip=f"{folder.name}/k")
        manager.connection_file = f"{folder.name}/connection.json"
        manager.start_kernel()
        client = manager.client()

        def close() -> None:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            folder.cleanup()

        client.start_channels(iopub=False, stdin=False, hb=False)
        _execute(client, PREPARE, {})
        return client, close

    def call(self, by: int) -> int:
        return _incremented(self._client, by)

    def new_session(self) -> Callable[[], object]:
        client, close = self._started()
        _incremented(client, 1)
        return close

    def close(self) -> None:
        for close in self._closers:
            close()


def _incremented(client: Any, by: int) -> int:
    return int(_execute(client, "", {"n": f"work.incr({by})['n']"})["n"]["data"]["text/plain"])


def _execute(client: Any, code: str, expressions: dict[str, str]) -> Any:
    sent = client.execute(code, silent=True, store_history=False, user_expressions=expressions)
    while True:
        reply = client.get_shell_msg(timeout=CALL_SECONDS)
        if reply["parent_header"].get("msg_id") == sent:
            break
    if reply["content"]["status"] != "ok":
        raise RuntimeError(f"the kernel answered {reply['content']}")
    return reply["content"]["user_expressions"]
