"""Ray: an actor of a local cluster, arrays through its object store.

Ray listens on more than loopback, so it runs only where the run has a network of its own
(`benchmarks.netns`).
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from benchmarks import netns
from benchmarks.peers import CALL_SECONDS, Peer, Unavailable
from benchmarks.peers.work import Work

STORE_BYTES = 2**30


class RayActor(Peer):
    name = "Ray actor"
    kind = "actor"
    no_pipeline = ""

    def __init__(self) -> None:
        self._folder = ""

    def open(self) -> None:
        if not netns.is_own():
            raise Unavailable(f"it listens beyond loopback, and {netns.why_not()}")
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # Else it writes a token into the user's home; nobody else is in this network.
        os.environ["RAY_AUTH_MODE"] = "disabled"
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        import ray

        # Short: the names of its Unix sockets are long.
        self._folder = tempfile.mkdtemp(prefix="ray-")
        self._ray: Any = ray
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=self._folder,
        )
        self._remote: Any = ray.remote(Work)
        self._actor: Any = self._remote.remote()

    def call(self, by: int) -> int:
        return int(self._ray.get(self._actor.incr.remote(by), timeout=CALL_SECONDS)["n"])

    def begin(self, by: int) -> Any:
        return SimpleNamespace(
            result=partial(self._ray.get, self._actor.incr.remote(by), timeout=CALL_SECONDS)
        )

    def echo(self, array: Any) -> Any:
        return self._ray.get(self._actor.echo.remote(self._ray.put(array)), timeout=CALL_SECONDS)

    def new_session(self) -> Callable[[], object]:
        actor = self._remote.remote()
        self._ray.get(actor.incr.remote(1), timeout=CALL_SECONDS)
        return lambda: self._ray.kill(actor)

    def close(self) -> None:
        if hasattr(self, "_ray"):
            self._ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
