"""A daemon that lies to the client library: no call hangs, gets another's result, or loads a pickle."""

from __future__ import annotations

import asyncio
import pickle
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.faults.fuzz import Garbage, examples
from tests.faults.test_security import Evil
from tests.sdk.fakedaemon import SESSION, TIMING, FakeDaemon
from warmd.protocol import errors, values
from warmd.protocol.exchange import Exchange
from warmd.protocol.messages import (
    PROTOCOL,
    Accepted,
    Body,
    Call,
    CallId,
    Hello,
    Part,
    Request,
    Result,
    Welcome,
)
from warmd.protocol.wire import FROM_DAEMON, WireError

TIMEOUT_SECONDS = 0.2
BOUND_SECONDS = TIMEOUT_SECONDS + 2.5 + 3.0 + 1.0
"""The time-out, the client's patience after it, a handshake that fails, and a noisy machine."""
PARTS = 3
ANSWERS: list[Any] = [{}, {1: 2}, [], [{}], [5], {"x": [1]}, 5, True, None, "x", [[1, 2]]]
"""To requests, which expect a map or an array of maps."""


class LyingDaemon(FakeDaemon):
    """Between lies it mostly answers a call with the call's own id, so that each value tells whose it is."""

    def __init__(self, path: Path, trace: Path) -> None:
        self._pickle = pickle.dumps(Evil(trace))
        self.garbage = Garbage(FROM_DAEMON, self._pools(CallId(bytes(16))))
        super().__init__(path)

    def frames(self, message: Any) -> Iterator[list[Body]]:
        random = self.garbage.random
        if isinstance(message, Hello):
            if random.random() < 0.02:
                yield from self._lies(1)
            yield from super().frames(message)
        elif isinstance(message, (Call, Request)):
            self.garbage.pools = self._pools(message.id)
            yield from self._lies(random.choice([0, 0, 1, 4]))
            # A request's patience, half a minute, is no option: one that is not answered takes too long here.
            if isinstance(message, Request) or random.random() < 0.99:
                yield from map(FROM_DAEMON.pack, self._truth(message))
            yield from self._lies(random.choice([0, 1, 4]))
        elif random.random() < 0.5:
            yield from super().frames(message)

    def _lies(self, count: int) -> Iterator[list[Body]]:
        earlier, id = self.of(Call), self.garbage.pools["id"][0]
        for _ in range(count):
            if earlier and self.garbage.random.random() < 0.3:
                yield from map(FROM_DAEMON.pack, self._truth(self.garbage.random.choice(earlier)))
            elif self.garbage.random.random() < 0.1:
                yield FROM_DAEMON.pack(Result(id, SESSION, 0, TIMING, self._pickle))
                yield FROM_DAEMON.pack(Part(id, 0, self._pickle))
            else:
                yield [*self.garbage.frames()]

    def _truth(self, message: Call | Request) -> Iterator[Any]:
        """The honest answer, `PARTS` parts long where it is a stream."""
        own = values.pack(message.id.hex())
        if isinstance(message, Request):
            yield Result(message.id, None, value=values.pack(self.garbage.random.choice(ANSWERS)))
            return
        if isinstance(message, Call) and message.session == "new":
            yield Accepted(message.id, SESSION)
        if message.window is None:
            yield Result(message.id, SESSION, 0, TIMING, own)
            return
        yield from (Part(message.id, number, own) for number in range(PARTS))
        yield Result(message.id, SESSION, PARTS, TIMING)

    def _pools(self, id: CallId) -> dict[str, list[Any]]:
        own = values.pack(id.hex())
        return {
            "id": [id, id, id, b"x" * 16, b""],
            "session": [SESSION, None, ""],
            "value": [own, own, self._pickle, b"\xc1", b"\x91" * 5000, b""],
            "number": [0, 1, 2, 3, -1, 2**64 - 1],
            "parts": [0, 0, PARTS, -1, 2**64 - 1],
            "code": [*errors.BY_CODE, "", "NO_SUCH"],
            "details": [
                {},
                {"traceback": 5},
                {"type": None, "log_tail": [], "stack": self._pickle},
                {"limit": {}},
            ],
            "protocol": [2, 2, 1, -1],
            "boot": ["boot", "boot", "other"],
        }


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[LyingDaemon]:
    with tempfile.TemporaryDirectory(prefix="liar-") as folder:
        found = LyingDaemon(Path(folder) / "s", tmp_path / "loaded")
        try:
            yield found
        finally:
            found.close()
        assert not (tmp_path / "loaded").exists(), "a pickle was loaded"


class Heard:
    """What came of the calls: values that are another call's are found out."""

    def __init__(self, liar: LyingDaemon) -> None:
        self._liar = liar
        self.good = 0

    def value(self, output: object, call: str | None) -> None:
        self.good += output == call
        others = {message.id.hex() for message in self._liar.of(Call)} - {call}
        assert output not in others if isinstance(output, str) else True, f"{call} got what is {output}'s"

    def error(self, error: warmd.WarmdError) -> None:
        """Whatever the daemon put into it, it can be shown and told on."""
        assert str(error) + repr(error) + error.ran
        assert repr(pickle.loads(pickle.dumps(error))) == repr(error)


def bounded(began: float) -> None:
    took = time.monotonic() - began
    assert took < BOUND_SECONDS, f"a call took {took:.1f} s"


def test_no_lie_of_a_daemon_confuses_a_client(liar: LyingDaemon) -> None:
    heard, count = Heard(liar), examples(250)
    with warmd.Client(str(liar.path)) as client:
        for number in range(count):
            began = time.monotonic()
            try:
                if number % 20 == 0:
                    client.status()
                    client.sessions.list()
                elif number % 3 == 0:
                    call = client.submit(app="x", session="new", timeout=TIMEOUT_SECONDS)
                    heard.value(call.result().output, call.call_id)
                elif number % 3 == 1:
                    result = client.run(app="x", session=SESSION, timeout=TIMEOUT_SECONDS)
                    heard.value(result.output, result.call_id)
                else:
                    stream = client.stream(app="x", session=SESSION, timeout=TIMEOUT_SECONDS)
                    for part in stream:
                        heard.value(part, stream.call_id)
            except warmd.WarmdError as error:
                heard.error(error)
            bounded(began)
    assert heard.good > count // 4, "hardly a call came through: nothing was tried"


async def test_no_lie_of_a_daemon_confuses_an_async_client(liar: LyingDaemon) -> None:
    heard, count = Heard(liar), examples(400)

    async def one(client: warmd.AsyncClient, streams: bool) -> None:
        began = time.monotonic()
        try:
            if streams:
                stream = client.stream(app="x", session=SESSION, timeout=TIMEOUT_SECONDS)
                async for part in stream:
                    heard.value(part, stream.call_id)
            else:
                result = await client.run(app="x", session="new", timeout=TIMEOUT_SECONDS)
                heard.value(result.output, result.call_id)
        except warmd.WarmdError as error:
            heard.error(error)
        bounded(began)

    async with warmd.AsyncClient(str(liar.path)) as client:
        for number in range(0, count, 4):
            await asyncio.gather(*(one(client, streams=(number + n) % 3 == 0) for n in range(4)))
    assert heard.good > count // 8, "hardly a call came through: nothing was tried"


@pytest.mark.parametrize("limits", [(-1, 3600.0), (1, float("nan")), (1, 0.0)])
def test_a_welcome_with_limits_that_are_none_is_no_welcome(limits: tuple[int, float]) -> None:
    exchange = Exchange(Hello(PROTOCOL, "0", 1, "test"))
    with pytest.raises(WireError, match="limits"):
        exchange.received(FROM_DAEMON.pack(Welcome(PROTOCOL, "0", "boot", 1, *limits)), 0.0)
