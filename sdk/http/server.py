"""uvicorn around the gateway, and its end.

It ends at SIGTERM, SIGINT, or the end of file of its lifeline.  Streams are cut then, in the midst of a
line: a clean end without a last line would leave a client waiting for ever.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from warmd.aio import AsyncClient
from warmd.http import logs
from warmd.http.connections import Connection, want_descriptors
from warmd.http.gateway import Gateway
from warmd.http.keys import Keys
from warmd.http.options import Options, spelled
from warmd.http.serving import Serving, address_of, announced

GRACE_SECONDS = 5
"""What requests under way get when the gateway stops; streams are cut at once."""
UNREAD_SECONDS = 1.0
"""What of it those get that do not read their answer."""
BACKLOG = 512
KEEP_ALIVE_SECONDS = 75


def serve(
    options: Options,
    address: str | None,
    folder: Path,
    keys: Keys,
    on_ready: Callable[[str], object] | None = None,
    lifeline_fd: int | None = None,
    log_level: str = "info",
) -> None:
    """Serve until it is told to stop; `on_ready` and the log are told the address when it can be asked.

    Raises OSError when the address cannot be had, and ValueError when an option names a key that is none.
    """
    logs.set_up(log_level)
    want_descriptors()
    gateway = Gateway(AsyncClient(address), options, folder, keys)
    with socket.create_server((options.host, options.port), family=options.family, backlog=BACKLOG) as sock:
        host, port = sock.getsockname()[:2]
        with announced(folder, Serving(address_of(host, port), options.open)):
            _Server(gateway, host, port, on_ready, lifeline_fd).run(sockets=[sock])


class _Server(uvicorn.Server):
    def __init__(
        self,
        gateway: Gateway,
        host: str,
        port: int,
        on_ready: Callable[[str], object] | None,
        lifeline_fd: int | None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                gateway.application(),
                loop="uvloop",
                http=Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._gateway = gateway
        self._on_ready = on_ready
        self._lifeline_fd = lifeline_fd
        self._host, self._port = host, port

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends it in order, with exit code 0; a second one at once."""
        del sig, frame
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._lifeline_fd is not None:
            asyncio.get_running_loop().add_reader(self._lifeline_fd, self._lifeline_ended)
        print(f"warmd serves HTTP at http://{spelled(self._host, self._port)}", file=sys.stderr, flush=True)
        if self._on_ready is not None:
            self._on_ready(address_of(self._host, self._port))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drop_stalled()
        self._gateway.endless.cut_all()
        self._gateway.tasks.stop_waiting()
        dropping = asyncio.create_task(self._drop_unread())
        await super().shutdown(sockets)
        dropping.cancel()

    def _drop_stalled(self) -> None:
        """The connections of who does not read their stream: closed in order, they would wait to be read."""
        asked = {id(scope) for scope in self._gateway.endless.open.values()}
        for connection in tuple(self.server_state.connections):
            if not isinstance(connection, Connection) or id(connection.scope) not in asked:
                continue
            if connection.transport.get_write_buffer_size():
                connection.transport.abort()

    async def _drop_unread(self) -> None:
        """Again and again those of whose answer nothing was read meanwhile: all the grace would not help."""
        before = self._unread()
        while True:
            await asyncio.sleep(UNREAD_SECONDS)
            now = self._unread()
            for connection, size in now.items():
                if before.get(connection) == size:
                    connection.transport.abort()
            before = now

    def _unread(self) -> dict[Connection, int]:
        """Bytes that wait to be read, by connection."""
        sizes = {
            connection: connection.transport.get_write_buffer_size()
            for connection in self.server_state.connections
            if isinstance(connection, Connection)
        }
        return {connection: size for connection, size in sizes.items() if size}

    def _lifeline_ended(self) -> None:
        assert self._lifeline_fd is not None, "it was watched"
        asyncio.get_running_loop().remove_reader(self._lifeline_fd)
        self.should_exit = True
