"""FastAPI on uvicorn, one process, called over one kept-alive HTTP connection on 127.0.0.1.

The client is the standard library's, which costs less than httpx and requests; arrays go as the
body's bytes.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import socket
from collections.abc import Callable
from typing import Any

from benchmarks.peers import CALL_SECONDS, Peer, Unavailable
from benchmarks.peers.children import child


class HttpServer(Peer):
    name = "FastAPI + uvicorn"
    kind = "http"

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def open(self) -> None:
        for module in ("fastapi", "uvicorn"):
            if importlib.util.find_spec(module) is None:
                raise Unavailable(f"{module} is not installed (pip install '.[bench]')")
        self._connection = _started(self._stack)

    def call(self, by: int) -> int:
        return int(_incremented(self._connection, by))

    def echo(self, array: Any) -> Any:
        import numpy

        body = memoryview(array).cast("B")
        return numpy.frombuffer(_posted(self._connection, "/echo", body), array.dtype)

    def new_session(self) -> Callable[[], object]:
        stack = contextlib.ExitStack()
        with contextlib.ExitStack() as unless_it_starts:
            unless_it_starts.callback(stack.close)
            _incremented(_started(stack), 1)
            unless_it_starts.pop_all()
        return stack.close

    def close(self) -> None:
        self._stack.close()


def _started(stack: contextlib.ExitStack) -> http.client.HTTPConnection:
    # The listening socket is handed on: the first request waits in it until the server is there.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        stack.enter_context(
            child("benchmarks.peers.http_app", str(listener.fileno()), pass_fds=[listener.fileno()])
        )
    connection = http.client.HTTPConnection(host, port, timeout=CALL_SECONDS)
    stack.callback(connection.close)
    return connection


def _incremented(connection: http.client.HTTPConnection, by: int) -> Any:
    return json.loads(_posted(connection, "/incr", json.dumps({"by": by}).encode()))["n"]


def _posted(connection: http.client.HTTPConnection, path: str, body: bytes | memoryview) -> bytes:
    kind = "application/json" if path == "/incr" else "application/octet-stream"
    connection.request("POST", path, body, {"Content-Type": kind, "Content-Length": str(len(body))})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {answer.read()[:200]!r}")
    return answer.read()
