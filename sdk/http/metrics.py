"""What Prometheus is told: the gateway's own counts, and the daemon's state at the time of asking.

Labels have few values, for each combination is kept for ever: routes as templates, never paths, apps
that the daemon knows, and no ids.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from warmd.http.task import Task
from warmd.protocol.errors import WarmdError

if TYPE_CHECKING:
    from warmd.aio import AsyncClient

PATIENCE_SECONDS = 2.0
"""The daemon has so long to tell its part: a scrape that waits longer is lost as a whole."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
NO_ROUTE = "none"
"""Stands for all paths that lead nowhere, and for what was turned away before."""
BUCKETS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
OF_STATUS = {
    "queued": ("warmd_queue_depth", "Calls that wait for their turn."),
    "queued_bytes": ("warmd_queued_bytes", "Bytes of what waits."),
    "running": ("warmd_running_calls", "Calls that run."),
    "max_sessions": ("warmd_max_sessions", "The most sessions that there may be."),
    "draining": ("warmd_draining", "Whether the daemon is stopping."),
    "clients": ("warmd_clients", "Connections of clients, the gateway's among them."),
    "slow_clients": ("warmd_slow_clients", "Clients that are behind in their reading."),
    "memory": ("warmd_daemon_rss_bytes", "Resident memory of the daemon itself."),
    "uptime_seconds": ("warmd_uptime_seconds", "How long the daemon has run."),
}
COUNTED = {
    "dropped_messages": ("warmd_dropped_messages", "Messages that were none, and were dropped."),
    "log_errors": ("warmd_log_errors", "Failures to write a session's log."),
}


class Metrics:
    """Counts of one gateway, in a registry of its own."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._registry = CollectorRegistry()
        requests = Counter(
            "warmd_http_requests",
            "Requests by route, method and status; status 0 went without an answer.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        seconds = Histogram(
            "warmd_http_request_duration_seconds",
            "From a request's arrival to the end of its answer.",
            ("route",),
            buckets=BUCKETS_SECONDS,
            registry=self._registry,
        )
        tasks = Counter(
            "warmd_http_tasks",
            "Tasks that have ended, by how they did.",
            ("app", "end"),
            registry=self._registry,
        )
        # To find the series of some labels costs more than to count in it.
        self._requests = cache(requests.labels)
        self._seconds = cache(seconds.labels)
        self._tasks = cache(tasks.labels)
        self.deliveries = Counter(
            "warmd_http_webhook_deliveries",
            "Webhooks by what became of them: delivered, refused, failed or dropped.",
            ("result",),
            registry=self._registry,
        )
        self.webhook_tries = Counter(
            "warmd_http_webhook_tries", "Requests sent to webhooks.", registry=self._registry
        )
        self.open_streams = Gauge("warmd_http_open_streams", "Streams being read.", registry=self._registry)

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """A request was answered."""
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._requests(route, method, status).inc()
        self._seconds(route).observe(seconds)

    def task(self, task: Task) -> None:
        """A task has ended."""
        self._tasks(task.facts.app, task.status.text).inc()

    async def exposition(self) -> bytes:
        """All of it in Prometheus's text format, soon, also without the daemon."""
        daemon = CollectorRegistry()
        daemon.register(_Known(await self._daemon()))
        return generate_latest(self._registry) + generate_latest(daemon)

    async def _daemon(self) -> list[Metric]:
        up = GaugeMetricFamily("warmd_up", "Whether the daemon answers.")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status = await self._client.status()
                infos = await self._client.sessions.list()
        except (WarmdError, TimeoutError):
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        return [up, *_of_status(status), *_of_gpus(status.get("gpus") or []), *_of_sessions(infos)]


class _Known(Collector):
    """Families that are known already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _of_status(status: Any) -> Iterator[Metric]:
    build = GaugeMetricFamily("warmd_build_info", "The daemon's version.", labels=("version",))
    build.add_metric([status["version"]], 1)
    yield build
    for field, (name, text) in OF_STATUS.items():
        if status.get(field) is not None:
            yield GaugeMetricFamily(name, text, value=float(status[field]))
    for field, (name, text) in COUNTED.items():
        yield CounterMetricFamily(name, text, value=float(status[field]))


def _of_gpus(gpus: Any) -> Iterator[Metric]:
    for field, name, text in (
        ("memory", "warmd_gpu_total_bytes", "Memory of a GPU."),
        ("used", "warmd_gpu_used_bytes", "What is used of it, by whomever."),
    ):
        family = GaugeMetricFamily(name, text, labels=("gpu",))
        for gpu in gpus:
            family.add_metric([str(gpu["index"])], gpu[field])
        if gpus:
            yield family


def _of_sessions(infos: Any) -> Iterator[Metric]:
    sessions = GaugeMetricFamily("warmd_sessions", "Sessions and workers.", labels=("app", "kind", "state"))
    for labels, count in Tally((info["app"], info["kind"], info["state"]) for info in infos).items():
        sessions.add_metric(labels, count)
    yield sessions
    with_gpus = [info for info in infos if info["gpu"] is not None]
    yield _by_app("warmd_worker_rss_bytes", "Resident memory of workers.", infos, lambda one: one["memory"])
    if with_gpus:
        on, off = "GPU memory of workers.", "GPU memory of workers that is parked in host memory."
        yield _by_app("warmd_gpu_memory_bytes", on, with_gpus, lambda one: one["gpu"]["memory"])
        yield _by_app("warmd_gpu_parked_bytes", off, with_gpus, lambda one: one["gpu"]["parked"])


def _by_app(name: str, text: str, infos: Any, bytes_of: Callable[[Any], int | None]) -> Metric:
    family, held = GaugeMetricFamily(name, text, labels=("app",)), Tally[str]()
    for info in infos:
        held[info["app"]] += bytes_of(info) or 0
    for app, size in held.items():
        family.add_metric([app], size)
    return family
