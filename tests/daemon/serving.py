"""A daemon without its command line: `python serving.py RUN_DIR`, for tests of the server."""

from __future__ import annotations

import sys

from warmd.daemon import config
from warmd.daemon.catalog import Catalog
from warmd.daemon.core.broker import Broker
from warmd.daemon.logs import SessionLogs
from warmd.daemon.server import Server
from warmd.protocol import places


def main(run_dir: str) -> None:
    settings = config.load({"run_dir": run_dir}, {}, [])
    logs = SessionLogs(places.logs_dir(settings.run_path), settings.log_max_bytes, settings.log_keep)
    server = Server(settings, Broker(settings.limits()), Catalog(), logs)
    print("ready", flush=True)
    try:
        server.run()
    finally:
        server.close()
        logs.close()


if __name__ == "__main__":
    main(sys.argv[1])
