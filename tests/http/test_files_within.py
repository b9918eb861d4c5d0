"""The files of a gateway without HTTP: whose they are, what breaks, what is written down."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message

from warmd.http.fileroutes import FileRoutes
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
    uri = files.described(await uploaded(files))["uri"]
    assert Path(await files.in_input(uri, "ann")).read_text() == "x"
    with pytest.raises(HttpProblem, match="no file of yours"):
        await files.in_input({"a": [uri]}, "bob")
    with pytest.raises(HttpProblem, match="no file of yours"):
        await files.in_input(f"{uri[:-2]}x/a", "ann")


async def test_addresses_of_others_pass(files: Files, tmp_path: Path) -> None:
    other = Files(tmp_path / "other", OPTIONS, no_calls)
    await other.open()
    uri = other.described(await uploaded(other))["uri"]
    assert await files.in_input([uri, "/content/file_"], "ann") == [uri, "/content/file_"]
    await other.close()


async def test_an_upload_that_is_given_up_leaves_nothing(files: Files, tmp_path: Path) -> None:
    (record,) = await files.announce([Announced("a", "text/plain", 0)], "ann", "http://x")

    async def stuck() -> AsyncIterator[bytes]:
        yield b"x"
        raise HttpProblem("BODY_STALLED", "too slowly")

    with pytest.raises(HttpProblem, match="too slowly"):
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


async def test_a_file_does_not_expire_while_it_comes(files: Files, tmp_path: Path) -> None:
    (record,) = await files.announce([Announced("a", "text/plain", 0)], "ann", "http://x")
    other = Files(tmp_path, OPTIONS, no_calls)
    await other.open()
    stays_unused(files, record, OPTIONS.file_seconds - 1)

    async def slow() -> AsyncIterator[bytes]:
        assert other._sweep(2.0) == []
        yield b"12"
        stays_unused(files, record, OPTIONS.file_seconds + 1)
        other._drop(other._sweep(2.0))
        yield b"34"

    await files.receive(record, slow(), 0)
    assert files.path(files.find(record.id)).read_bytes() == b"1234"
    await other.close()


@pytest.mark.parametrize("step", range(4))
async def test_a_gateway_that_dies_in_an_upload_leaves_one_version(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    record, steps = await uploaded(files, b"before"), iter(range(4))
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if next(steps) >= step:
            raise OSError(errno.EIO, "killed")
        replace(source, target)

    monkeypatch.setattr("warmd.http.filestore.os.replace", killed)
    with contextlib.suppress(HttpProblem):
        await files.receive(record, chunks(b"and after"), 0)
    monkeypatch.undo()
    other = Files(tmp_path, OPTIONS, no_calls)
    await other.open()
    found = other.find(record.id)
    data = other.path(found).read_bytes()
    assert data == (b"before" if step < 2 else b"and after")
    assert (found.size, other._room.held, parts(tmp_path)) == (len(data), len(data), [])
    await other.close()


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
    assert ([*(tmp_path / "files").glob("file_*")], files._room.held) == ([], 0)


def stays_unused(files: Files, record: Record, seconds: float) -> None:
    """It was used last so long ago."""
    at = time.time() - seconds
    os.utime(files.path(record).with_name(".record"), (at, at))


@pytest.mark.parametrize("what", ["replaced", "deleted"])
@pytest.mark.parametrize(("asked", "told"), [(None, b"before"), (b"bytes=1-3", b"efo"), (b"bytes=-2", b"re")])
async def test_a_reader_gets_one_version(files: Files, what: str, asked: bytes | None, told: bytes) -> None:
    record = await uploaded(files, b"before")
    told_of = files.path(record).stat()
    *_, id, secret, name = files.described(record)["uri"].split("/")
    headers = [] if asked is None else [(b"range", asked)]
    scope = {
        "type": "http", "method": "GET", "headers": headers,
        "path_params": {"id": id, "secret": secret, "filename": name},
    }  # fmt: skip
    answer = await FileRoutes(OPTIONS, files).content(Request(scope))
    if what == "deleted":
        await files.delete(id)
    else:
        await files.receive(record, chunks(b"and after"), 0)
    messages: list[Message] = []

    async def receive() -> Message:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: Message) -> None:
        messages.append(message)
        if message["type"] == "http.response.body":
            assert times_open(told_of) == 1

    await answer(scope, receive, send)
    start, *rest = messages
    assert b"".join(message["body"] for message in rest) == told
    assert Headers(raw=start["headers"])["content-length"] == str(len(told))


def times_open(file: os.stat_result) -> int:
    """How many descriptors of this process the file takes."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.path.samestat(os.fstat(int(descriptor)), file)
    return found


async def test_uses_and_sizes_are_known_to_the_next_gateway(tmp_path: Path) -> None:
    first = Files(tmp_path, OPTIONS, no_calls)
    await first.open()
    old, used, torn = [await uploaded(first, b"four") for _ in range(3)]
    uri = first.described(used)["uri"]
    stays_unused(first, old, OPTIONS.file_seconds + 1)
    stays_unused(first, used, OPTIONS.file_seconds - 1)
    await first.in_input(uri, "ann")
    os.truncate(first.path(torn), 1)
    await first.close()
    second = Files(tmp_path, OPTIONS, no_calls)
    await second.open()
    assert second._room.held == 4
    assert {path.name for path in (tmp_path / "files").iterdir()} == {"key", "lock", used.id}
    assert second.find(used.id).used > time.time() - OPTIONS.file_seconds / 2
    assert Path(await second.in_input(uri, "ann")).read_text() == "four"
    await second.close()


async def test_all_gateways_of_a_folder_have_the_same_files(files: Files, tmp_path: Path) -> None:
    other = Files(tmp_path, OPTIONS, no_calls)
    await other.open()
    record = await uploaded(files, b"four")
    assert other.described(other.find(record.id)) == files.described(record)
    assert await other.in_input(files.described(record)["uri"], "ann") == str(files.path(record))
    await other.delete(record.id)
    with pytest.raises(HttpProblem, match="there is no file"):
        files.find(record.id)
    await other.close()


async def test_a_gateway_that_starts_lets_another_receive(files: Files, tmp_path: Path) -> None:
    (record,) = await files.announce([Announced("a", "text/plain", 0)], "ann", "http://x")
    (tmp_path / "files" / record.id / ".part-left").touch()  # by one that was killed
    starting = Files(tmp_path, OPTIONS, no_calls)

    async def slow() -> AsyncIterator[bytes]:
        yield b"12"
        await starting.open()
        yield b"34"

    await files.receive(record, slow(), 0)
    assert (files.path(record).read_text(), parts(tmp_path)) == ("1234", [])
    await starting.close()


async def test_a_gateway_that_is_stopped_holds_up_what_changes_files_and_not_for_ever(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await uploaded(files)
    seconds = 3.0
    monkeypatch.setattr("warmd.http.filestore.LOCK_SECONDS", seconds)
    with open(tmp_path / "files" / "lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun = time.monotonic()
        some = [files.receive(record, chunks(b"y"), 0) for _ in range(40)]
        some += [files.delete(record.id), uploaded(files)]  # type: ignore[list-item]
        changes = asyncio.gather(*some, return_exceptions=True)
        await asyncio.sleep(0)
        assert (await asyncio.to_thread(files.find, record.id)).size == 1
        assert not changes.done() and time.monotonic() - begun < seconds
        for problem in await changes:
            assert isinstance(problem, HttpProblem) and "has held files/lock" in problem.detail
            assert (problem.status, problem.response().headers["Retry-After"]) == (503, "5")
        assert time.monotonic() - begun < 1.9 * seconds
    await uploaded(files)


@pytest.mark.parametrize("is_used", [True, False])
async def test_what_another_gateway_used_lately_does_not_expire(
    files: Files, tmp_path: Path, is_used: bool
) -> None:
    other = Files(tmp_path, OPTIONS, no_calls)
    await other.open()
    record = await uploaded(files, b"four")
    stays_unused(files, record, OPTIONS.file_seconds - 1)
    due = other._sweep(2.0)
    assert due == [record.id]
    if is_used:
        await files.in_input(files.described(record)["uri"], "ann")
    else:
        stays_unused(files, record, OPTIONS.file_seconds + 1)
    other._drop(due)
    assert files.path(record).exists() is is_used
    await other.close()


async def test_bytes_of_all_gateways_are_counted_in_time(files: Files, tmp_path: Path) -> None:
    other = Files(tmp_path, OPTIONS, no_calls)
    await other.open()
    await uploaded(files, bytes(60))
    other._sweep(0.0)
    assert (other._room.held, other._room.files) == (60, 1)
    with pytest.raises(HttpProblem, match="limit of 100"):
        await uploaded(other, bytes(60))
    await other.close()


async def test_who_has_a_file_is_asked_of_the_daemon_when_it_would_expire(files: Files) -> None:
    answers: list[set[str] | Exception] = [DaemonUnavailable("away", ran="no"), {"b"}, {"late"}]

    async def live() -> set[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer == {"b"}:
            await leases.give([record], "late")
        return answer

    record, leases = await uploaded(files), Leases(files._store, live)
    # nobody has it: nobody is asked
    assert await leases.renew([record.id]) == set() and len(answers) == 3
    await leases.give([record], "a")
    await leases.give([record], "b")
    for calls in ({"a", "b"}, {"b", "late"}, {"late"}):
        stays_unused(files, record, 1000.0)
        assert await leases.renew([record.id]) == {record.id}
        assert {*files._store.calls(record.id)} == calls
        assert files.find(record.id).used > time.time() - 500.0
    await leases.ended("late")
    assert await leases.renew([record.id]) == set()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
async def test_a_file_that_cannot_be_looked_at_is_no_file_that_is_not(
    files: Files, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    record, other = await uploaded(files, b"four"), await uploaded(files, b"four")

    def refused(path: Path, *_how: object) -> None:
        if record.id in str(path):
            raise OSError(number, os.strerror(number))
        return open(path, "rb")  # type: ignore[return-value]

    monkeypatch.setattr("warmd.http.filestore.open", refused, raising=False)
    assert [one.id for one in files._store.sweep(files._addresses.is_ours)] == [other.id]
    with pytest.raises(HttpProblem, match=os.strerror(number)) as caught:
        files.find(record.id)
    assert caught.value.status == (503 if number == errno.EMFILE else 500)
    monkeypatch.undo()
    assert files.path(files.find(record.id)).read_bytes() == b"four"
