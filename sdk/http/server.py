"""uvicorn around the gateway, and its end."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import uvicorn

from warmd.aio import AsyncClient
from warmd.http.gateway import Gateway
from warmd.http.keys import Keys
from warmd.http.options import Options

GRACE_SECONDS = 5
"""What requests under way get when the gateway stops; streams are cut at once."""


def serve(
    options: Options, address: str | None, folder: Path, keys: Keys, ready_fd: int | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; the address goes to `ready_fd` when it can be asked.

    Raises OSError when the address cannot be had.
    """
    gateway = Gateway(AsyncClient(address), options, folder, keys)
    with socket.create_server((options.host, options.port), backlog=512) as sock:
        _Server(gateway, sock, ready_fd).run(sockets=[sock])


class _Server(uvicorn.Server):
    def __init__(self, gateway: Gateway, sock: socket.socket, ready_fd: int | None) -> None:
        super().__init__(
            uvicorn.Config(
                gateway.application(),
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._gateway = gateway
        self._ready_fd = ready_fd
        self._url = "http://{}:{}".format(*sock.getsockname()[:2])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready_fd is not None:
            with contextlib.suppress(OSError), open(self._ready_fd, "w") as ready:
                ready.write(self._url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.streams.cut_all()
        await super().shutdown(sockets)
