"""Parking a session by hand, and bringing it back, in both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import warmd
from tests.sdk.gpubox import GIB, Box, gpu_box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with gpu_box(tmp_path_factory.mktemp("box")) as box:
        yield box


def test_a_session_is_parked_and_comes_back(box: Box) -> None:
    with box.client.session("llama") as s:
        parked = s.park()
        assert (parked.id, parked.state, parked.gpu["parked"]) == (s.id, "parked", 10 * GIB)
        assert s.park().gpu["moves"] == 1, "it was there"
        back = s.unpark()
        assert (back.state, back.gpu["parked"], s.unpark().state) == ("idle", 0, "idle")
        assert box.client.sessions.park(s.id).state == "parked"
        assert s.run().output is True
        assert box.client.sessions.unpark(s.id).state == "idle"


def test_the_same_awaited(box: Box) -> None:
    async def main() -> list[str]:
        async with warmd.AsyncClient(box.client.address) as client, client.session("llama") as s:
            infos = [await s.park(), await s.unpark()]
            infos += [await client.sessions.park(s.id), await client.sessions.unpark(s.id)]
            assert all(info.id == s.id for info in infos)
            return [info.state for info in infos]

    assert asyncio.run(main()) == ["parked", "idle", "parked", "idle"]


def test_refusals(box: Box) -> None:
    with box.client.session("keeper") as s, pytest.raises(warmd.NotAllowed, match="its app says so"):
        s.park()
    with box.client.session("counter") as s, pytest.raises(warmd.Invalid, match="no GPU memory"):
        s.park()
    for refused in (s.park, s.unpark):
        with pytest.raises(warmd.SessionEnded):
            refused()
    with pytest.raises(warmd.Invalid, match="session"):
        box.client.sessions.park("")


def test_what_cannot_be_parked_works_on(box: Box) -> None:
    box.gpus.fault("no_memory", "checkpoint")
    with box.client.session("llama") as s:
        with pytest.raises(warmd.Invalid, match="could not be parked"):
            s.park()
        assert s.run().output is True


def test_the_daemon_alone_bounds_how_long_it_takes(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    patience: list[float | None] = []
    run, run_later = warmd.Client._run, warmd.AsyncClient._run

    def note(self, message, seconds):
        patience.append(seconds)
        return run(self, message, seconds)

    def note_later(self, message, seconds):
        patience.append(seconds)
        return run_later(self, message, seconds)

    async def main(id: str) -> None:
        async with warmd.AsyncClient(box.client.address) as client:
            await client.sessions.park(id)
            await client.sessions.unpark(id)

    with box.client.session("llama") as s:
        monkeypatch.setattr(warmd.Client, "_run", note)
        monkeypatch.setattr(warmd.AsyncClient, "_run", note_later)
        s.park()
        s.unpark()
        asyncio.run(main(s.id))
        assert patience == [None] * 4
