"""Dask: an actor on a local cluster of one worker process with one thread."""

from __future__ import annotations

import tempfile
from typing import Any

import dask
from distributed import Client, LocalCluster

from benchmarks.peers import CALL_SECONDS, Peer
from benchmarks.peers.work import Work


class DaskActor(Peer):
    name = "Dask actor"
    kind = "actor"
    no_sessions = "an actor is an object in a worker process that others use too"
    no_pipeline = ""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dask-")

    def open(self) -> None:
        dask.config.set({"temporary-directory": self._folder.name})
        self._cluster = LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs="ERROR",
        )
        self._client = Client(self._cluster)
        self._actor: Any = self._client.submit(Work, actor=True).result(CALL_SECONDS)

    def call(self, by: int) -> int:
        return int(self.begin(by).result(CALL_SECONDS)["n"])

    def begin(self, by: int) -> Any:
        return self._actor.incr(by)

    def echo(self, array: Any) -> Any:
        return self._actor.echo(array).result(CALL_SECONDS)

    def close(self) -> None:
        for name in ("_client", "_cluster"):
            if hasattr(self, name):
                getattr(self, name).close()
        self._folder.cleanup()
