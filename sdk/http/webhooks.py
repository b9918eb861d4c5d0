"""The POST to a run's webhook, at the run's end: its JSON, as `GET /tasks/{id}` gives it, bare.

Headers and signature are those of Standard Webhooks (https://www.standardwebhooks.com), for which
receivers have libraries: `webhook-id` (the task's, the same in all tries), `webhook-timestamp`, and
`webhook-signature`, the HMAC-SHA256 of `id.timestamp.body` under the gateway's secret.

Delivered means answered with 2xx.  A webhook is told at least once: again after a lost answer, and
again by a gateway that finds the ended task when it starts, for nothing is kept here of what was
delivered.  Receivers know a repetition by its `webhook-id`.  What is given up is logged and counted:
after the last try, or at an answer that says that trying again is no use.

Nothing of an answer but its status is read, redirects are not followed, and proxies named in the
environment are not used: a webhook goes where its address says, and `webhook_hosts` says where it may.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import httpx

from warmd import __version__
from warmd.http.metrics import Metrics
from warmd.http.moments import now
from warmd.http.problems import HttpProblem
from warmd.http.task import Task
from warmd.protocol.errors import quoted
from warmd.protocol.keys import write_new

WAITS_SECONDS = (5.0, 30.0, 90.0, 180.0)
"""Before the second try, the third, and so on."""
TRY_SECONDS = 15.0
"""One try, from the look-up of the host's name to the answer's status."""
MOST_AT_ONCE = 16
MOST_PENDING = 1000
MOST_PENDING_BYTES = 64 * 2**20
"""Of the tasks that are yet to be delivered; what is over it is dropped."""
WORTH_ANOTHER_TRY = frozenset({408, 425, 429})
SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32
LEAST_SECRET_BYTES = 24
log = logging.getLogger("warmd.http")


class Webhooks:
    """Deliveries under way.  `sleep` is awaited between tries."""

    def __init__(
        self,
        folder: Path,
        metrics: Metrics,
        hosts: Sequence[str] = (),
        waits_seconds: Sequence[float] = WAITS_SECONDS,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._path = folder / "webhook-secret"
        self._metrics = metrics
        self._hosts = hosts
        self._waits_seconds = waits_seconds
        self._sleep = sleep
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._secret = b""
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._pending: dict[asyncio.Task[None], int] = {}

    def open(self) -> None:
        """Read the secret, which is made when it is needed first.  Raises OSError and ValueError."""
        self._secret = signing_secret(self._path)

    def ended(self, task: Task) -> None:
        """Tell whoever wanted to hear of this task's end."""
        if task.facts.webhook is None:
            return
        if not _may_go(_host_of(task.facts.webhook), self._hosts):
            # The gateway that began it had another list.
            self._over(task, "dropped", "it is no address that --webhook-hosts lets pass")
            return
        held = len(self._pending)
        if held >= MOST_PENDING or (held and sum(self._pending.values()) + task.size > MOST_PENDING_BYTES):
            self._over(task, "dropped", f"{held} others are waiting to be delivered")
            return
        delivery = asyncio.create_task(self._deliver(task, task.facts.webhook))
        self._pending[delivery] = task.size
        delivery.add_done_callback(self._pending.pop)

    async def close(self) -> None:
        """Give up what is under way: the next gateway takes it up."""
        for delivery in tuple(self._pending):
            delivery.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _deliver(self, task: Task, url: str) -> None:
        tries = len(self._waits_seconds) + 1
        for number, seconds in enumerate((*self._waits_seconds, None), 1):
            failure, again = await self._try(task, url)
            if not failure:
                self._metrics.deliveries.labels("delivered").inc()
                return
            if not again:
                self._over(task, "refused", failure)
                return
            if seconds is not None:
                log.warning("%s, try %d of %d: %s", _where(task), number, tries, failure)
                await self._sleep(seconds)
        self._over(task, "failed", f"{failure}, in the last of {tries} tries")

    async def _try(self, task: Task, url: str) -> tuple[str, bool]:
        """Why it was not delivered, nothing if it was; and whether another try is worth it."""
        async with self._turns:
            self._metrics.webhook_tries.inc()
            body = task.json()
            try:
                async with asyncio.timeout(TRY_SECONDS):
                    status = await self._post(url, body, self._headers(task, body))
            except (httpx.HTTPError, OSError, TimeoutError) as error:
                return f"{type(error).__name__}: {error}"[:200], True
            except Exception as error:  # nothing that anybody foresaw is lost in silence
                log.exception("%s cannot be told", _where(task))
                return type(error).__name__, False
        if 200 <= status < 300:
            return "", False
        return f"it answered {status}", status in WORTH_ANOTHER_TRY or status >= 500

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport, timeout=TRY_SECONDS, trust_env=False, follow_redirects=False
            )
        async with self._client.stream("POST", url, content=body, headers=headers) as answer:
            self._client.cookies.clear()
            return answer.status_code

    def _headers(self, task: Task, body: bytes) -> dict[str, str]:
        at = str(int(now()))
        return {
            "Content-Type": "application/json",
            "User-Agent": f"warmd/{__version__}",
            "X-Warmd-Task": task.id,
            "X-Request-Id": task.facts.request_id,
            "webhook-id": task.id,
            "webhook-timestamp": at,
            "webhook-signature": signature(self._secret, task.id, at, body),
        }

    def _over(self, task: Task, result: str, why: str) -> None:
        self._metrics.deliveries.labels(result).inc()
        log.warning("%s was %s: %s", _where(task), result, why)


def _where(task: Task) -> str:
    """For the log.  Not the whole address: what is behind the host may be a secret."""
    return f"the webhook of {task.id} at {_host_of(task.facts.webhook or '') or 'no address'}"


def _host_of(url: str) -> str:
    """Where an address of HTTP leads to; empty for what is no such address."""
    try:
        told = httpx.URL(url)
        return told.host if told.scheme in ("http", "https") and (told.port or 0) < 2**16 else ""
    except (httpx.InvalidURL, ValueError):  # also of names that IDNA does not have
        return ""


def check(url: str, hosts: Sequence[str]) -> None:
    """Raises HttpProblem for an address that is none, or that `hosts` does not let pass."""
    host = _host_of(url)
    if not host:
        raise HttpProblem(
            "INVALID", f"webhook: expected an address such as https://example.com/x, got {quoted(url, 100)}"
        )
    if not _may_go(host, hosts):
        raise HttpProblem(
            "NOT_ALLOWED",
            f"webhook: {quoted(host, 100)} is none of {', '.join(hosts)}: "
            "start the gateway with --webhook-hosts to allow it",
        )


def _may_go(host: str, hosts: Sequence[str]) -> bool:
    return host != "" and (not hosts or any(_matches(host, pattern) for pattern in hosts))


def _matches(host: str, pattern: str) -> bool:
    host, pattern = host.lower(), pattern.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def signature(secret: bytes, id: str, timestamp: str, body: bytes) -> str:
    """As Standard Webhooks has it: version 1, base64."""
    digest = hmac.digest(secret, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def signing_secret(path: Path) -> bytes:
    """The secret in the file: `whsec_` and base64.  Raises OSError, and ValueError for what is none."""
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(path, f"{SECRET_PREFIX}{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}\n")
    text = path.read_text().strip()
    with contextlib.suppress(ValueError):
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        if len(secret) >= LEAST_SECRET_BYTES:
            return secret
    raise ValueError(
        f"{path} holds no secret of webhooks ({SECRET_PREFIX} and the base64 of {LEAST_SECRET_BYTES} bytes "
        "or more): remove it, and a new one is made"
    )
