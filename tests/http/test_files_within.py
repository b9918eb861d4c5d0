"""The files of a gateway without HTTP: whose they are, what breaks, what is written down."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warmd.http.files import Announced, Files
from warmd.http.filestore import Record, Sink
from warmd.http.leases import Leases
from warmd.http.options import Options
from warmd.http.problems import HttpProblem
from warmd.protocol.errors import DaemonUnavailable

OPTIONS = Options(files_max_bytes=100)


async def no_calls() -> set[str]:
    return set()


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    files = Files(tmp_path, OPTIONS, no_calls)
    await files.open()
    yield files
    await files.close()


async def chunks(*some: bytes) -> AsyncIterator[bytes]:
    for chunk in some:
        yield chunk


async def uploaded(files: Files, data: bytes = b"x", owner: str = "ann") -> Record:
    (record,) = await files.announce([Announced("a", "text/plain", 0)], owner, "http://x")
    await files.receive(record, chunks(data), 0)
    return record


def parts(tmp_path: Path) -> list[Path]:
    return [*(tmp_path / "files").rglob(".part-*")]


async def test_a_file_is_an_input_of_its_owner_only(files: Files) -> None:
    uri = files.told(await uploaded(files))["uri"]
    assert Path(files.in_input(uri, "ann")).read_text() == "x"
    with pytest.raises(HttpProblem, match="no file of yours"):
        files.in_input({"a": [uri]}, "bob")
    with pytest.raises(HttpProblem, match="no file of yours"):
        files.in_input(f"{uri[:-2]}x/a", "ann")


async def test_addresses_of_others_pass(files: Files, tmp_path: Path) -> None:
    other = Files(tmp_path / "other", OPTIONS, no_calls)
    await other.open()
    uri = other.told(await uploaded(other))["uri"]
    assert files.in_input([uri, "/content/file_"], "ann") == [uri, "/content/file_"]
    await other.close()


async def test_an_upload_that_stands_still_is_given_up(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmd.http.files.STALL_SECONDS", 0.05)
    (record,) = await files.announce([Announced("a", "text/plain", 0)], "ann", "http://x")

    async def stuck() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    with pytest.raises(HttpProblem, match="stood still"):
        await files.receive(record, stuck(), 0)
    assert (parts(tmp_path), files._room.held, record.size) == ([], 0, None)


async def test_a_full_disk_says_so_and_keeps_what_was_there(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await uploaded(files, b"before")

    def full(_sink: Sink, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Sink, "write", full)
    with pytest.raises(HttpProblem, match="disk is full"):
        await files.receive(record, chunks(b"after"), 0)
    assert (files.path(record).read_text(), files._room.held, parts(tmp_path)) == ("before", 6, [])


async def test_what_is_announced_must_find_room(files: Files) -> None:
    with pytest.raises(HttpProblem, match="limit of 100"):
        await files.announce([Announced("a", "text/plain", 60)] * 2, "ann", "http://x")
    record = await uploaded(files)
    with pytest.raises(HttpProblem, match="limit of 100"):
        await files.receive(record, chunks(b"never asked for"), 101)


async def test_a_file_deleted_while_it_comes_is_not_kept(files: Files, tmp_path: Path) -> None:
    (record,) = await files.announce([Announced("a", "text/plain", 0)], "ann", "http://x")

    async def deleting() -> AsyncIterator[bytes]:
        yield b"x"
        await files.delete(record.id)

    with pytest.raises(HttpProblem, match="there is no file"):
        await files.receive(record, deleting(), 0)
    assert ([*(tmp_path / "files").iterdir()], files._room.held) == ([tmp_path / "files" / "key"], 0)


async def test_uses_and_sizes_are_known_to_the_next_gateway(tmp_path: Path) -> None:
    first = Files(tmp_path, OPTIONS, no_calls)
    await first.open()
    old, used, torn = [await uploaded(first, b"four") for _ in range(3)]
    uri = first.told(used)["uri"]
    for record in (old, used):
        record.used -= 2 * OPTIONS.file_seconds
        first._store.touch(record)
    used.used += 2 * OPTIONS.file_seconds
    first.in_input(uri, "ann")
    os.truncate(first.path(torn), 1)
    await first.close()
    second = Files(tmp_path, OPTIONS, no_calls)
    await second.open()
    assert [*second._records] == [used.id]
    assert second._room.held == 4
    assert {path.name for path in (tmp_path / "files").iterdir()} == {"key", used.id}
    assert Path(second.in_input(uri, "ann")).read_text() == "four"
    await second.close()


async def test_who_has_a_file_is_asked_of_the_daemon_when_it_would_expire() -> None:
    answers: list[set[str] | Exception] = [DaemonUnavailable("away", ran="no"), {"b"}, {"late"}]

    async def live() -> set[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer == {"b"}:
            leases.give([record], "late")
        return answer

    record, leases = Record("file", "ann", "a", "a/b", "", 0.0, used=0.0), Leases(live)
    assert await leases.renew([record]) == [] and len(answers) == 3  # nobody has it: nobody is asked
    leases.give([record], "a")
    leases.give([record], "b")
    for calls in (["a", "b"], ["b", "late"], ["late"]):
        assert await leases.renew([record]) == [record]
        assert record.calls == calls and record.used > 0.0
    leases.ended("late")
    assert await leases.renew([record]) == []
