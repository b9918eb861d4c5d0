"""Large values: in memory that client and worker share, past the daemon, and never seen by two at once."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import warmd
from tests.faults.watch import until
from warmd import aiolink, link
from warmd.protocol import mappings, segments

APP = """
import numpy as np
class App:
    kept = []
    def run(self, input): return input
    def add(self, array): array += 1; return float(array[0])
    def keep(self, array): self.kept.append(array); return len(self.kept)
    def sums(self): return [int(array.sum()) for array in self.kept]
    def parts(self, n):
        array = np.zeros(1 << 18, "u1")
        for i in range(n): array[:] = i; yield array
"""
HURRIED = """
from warmd.protocol import mappings, segments
mappings.KEPT_SECONDS = segments.KEPT_SECONDS = 0.1
class Sync:
    def run(self, array): return array * 2
class Async:
    def setup(self):
        from warmd.daemon.worker import invoke_async
        invoke_async.KEPT_SECONDS = 0.1
    async def run(self, array): return array * 2
"""
"""Apps whose workers let go soon."""
COUNT = 1 << 20
SLACK_BYTES = 24 << 20


@pytest.fixture
def client() -> Iterator[warmd.Client]:
    with warmd.testing.daemon() as client:
        client.status()
        yield client


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "large_values.py"
    path.write_text(APP)
    return f"{path}:App"


def memfds(pid: int | str = "self") -> int:
    """How many segments a process has open."""
    names = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return sum("memfd:warmd-lent" in name for name in names)


def mapped_segments(pid: int) -> set[str]:
    return set(re.findall(r"(\d+)\s+/memfd:warmd-lent", Path(f"/proc/{pid}/maps").read_text()))


def peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_they_pass_the_daemon_by_and_use_the_same_memory_again(client: warmd.Client, app: str) -> None:
    daemon = client.status().pid
    with client.session(app) as s:
        before = peak_bytes(daemon)
        for number in range(8):
            array = np.full(8 * COUNT, number, "<f4")
            assert np.array_equal(s.call("run", array).output, array)
        assert peak_bytes(daemon) - before < SLACK_BYTES
        assert len(mapped_segments(s.info().pid)) <= 4
        assert len(mapped_segments(os.getpid())) <= 4
        assert memfds(daemon) <= 2


def test_an_app_writes_to_its_input_and_nobody_sees_it(client: warmd.Client, app: str) -> None:
    array = np.zeros(COUNT)
    with client.session(app) as s:
        assert [s.call("add", array).output for _ in range(3)] == [1.0] * 3
        assert not array.any()


def test_what_an_app_keeps_stays_what_it_was(client: warmd.Client, app: str) -> None:
    with client.session(app) as s:
        for number in range(5):
            assert s.call("keep", np.full(COUNT, number, "u1")).output == number + 1
        assert s.call("sums").output == [number * COUNT for number in range(5)]


def test_results_that_are_kept_stay_and_can_be_written_to(client: warmd.Client, app: str) -> None:
    with client.session(app) as s:
        results = [s.call("run", {"n": n, "a": np.full(COUNT, n, "u1")}).output for n in range(40)]
        for result in results[::2]:
            result["a"] += 1
        assert [int(one["a"][0]) for one in results] == [n + 1 - n % 2 for n in range(40)]
        assert all((one["a"] == one["a"][0]).all() for one in results)


def test_the_result_of_a_submitted_call_can_be_had_twice(client: warmd.Client, app: str) -> None:
    with client.session(app) as s:
        for _ in range(2):  # the first comes as a frame, with the second the lane is there
            call = s.submit("run", np.arange(COUNT))
            first = call.result(20).output
            first[:] = 0
            assert np.array_equal(call.result(20).output, np.arange(COUNT))


def test_parts_of_a_stream(client: warmd.Client, app: str) -> None:
    with client.session(app) as s:
        for _ in range(2):
            parts = list(s.stream("parts", 50))
            assert [int(part[0]) for part in parts] == list(range(50))
            assert all((part == part[0]).all() for part in parts)


@pytest.mark.parametrize(
    "value", [os.urandom(COUNT), "é" * COUNT, [b"x"] * COUNT, {"a": (os.urandom(COUNT), {1})}]
)
def test_other_values_than_arrays(client: warmd.Client, app: str, value: Any) -> None:
    with client.session(app) as s:
        for _ in range(3):
            assert s.call("run", [value]).output == [value]


def test_tables(client: warmd.Client, app: str) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    table = arrow.table({"n": np.arange(COUNT), "text": [str(n) for n in range(COUNT)]})
    with client.session(app) as s:
        for _ in range(3):
            assert s.call("run", {"table": table}).output["table"].equals(table)


def test_many_threads_and_sessions_at_once(client: warmd.Client, app: str) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        with client.session(app) as s:
            for number in range(20):
                array = np.full(50_000 + seed, 100 * seed + number)
                if not np.array_equal(s.call("run", array).output, array):
                    wrong.append((seed, number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_asyncio_client(client: warmd.Client, app: str) -> None:
    async def work() -> None:
        async with warmd.AsyncClient(client.address) as other, await other.session(app) as s:
            arrays = [np.full(COUNT, n, "u1") for n in range(12)]
            results = await asyncio.gather(*(s.call("run", array) for array in arrays))
            pairs = zip(results, arrays, strict=True)
            assert all(np.array_equal(result.output, array) for result, array in pairs)
            async for part in s.stream("parts", 3):
                assert part.nbytes == 1 << 18

    asyncio.run(work())


def test_a_detached_calls_result_is_lent_to_each_who_reads_it(client: warmd.Client, app: str) -> None:
    with client.session(app) as s:
        call = client.submit(app=app, function="run", input=np.ones(COUNT), session=s.id, detach=True)
        call.result(20)
    for _ in range(3):  # the session is gone, its memory is not
        output = client.calls.result(call.call_id).output
        assert output.sum() == COUNT
        output[:] = 0


def test_a_client_lets_go_of_what_it_does_not_need(
    client: warmd.Client, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (segments, mappings, link, aiolink):
        monkeypatch.setattr(module, "KEPT_SECONDS", 0.1)
    before = memfds()

    async def work() -> None:
        async with warmd.AsyncClient(client.address) as other, await other.session(app) as s:
            for _ in range(3):
                await s.call("run", np.ones(COUNT))
            assert memfds() > before
            while memfds() > before:
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(work(), 20))
    with client.session(app) as s:
        for _ in range(3):
            s.call("run", np.ones(COUNT))
        assert memfds() > before
        until(lambda: memfds() == before)


@pytest.mark.parametrize("kind", ["Sync", "Async"])
def test_a_worker_lets_go_of_what_it_does_not_need(client: warmd.Client, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "hurried.py"
    path.write_text(HURRIED)
    with client.session(f"{path}:{kind}") as s:
        pid = s.info().pid
        results = [s.call("run", np.ones(COUNT)).output for _ in range(3)]
        assert mapped_segments(pid)
        results.clear()
        until(lambda: not mapped_segments(pid) and not memfds(pid))
        assert s.call("run", np.ones(COUNT)).output.sum() == 2 * COUNT


def test_a_daemon_that_lends_nothing_sends_frames(app: str) -> None:
    with warmd.testing.daemon(max_lent_bytes=0) as client, client.session(app) as s:
        for number in range(3):
            array = np.full(COUNT, number)
            assert np.array_equal(s.call("run", array).output, array)
        assert mapped_segments(s.info().pid) == set()
