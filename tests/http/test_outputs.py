"""What apps give, as JSON and files."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import math
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import hypothesis.strategies as st
import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given

import warmd
from tests.http.gatewayprocess import GatewayProcess
from tests.http.test_files_within import no_calls
from tests.protocol.test_values import VALUES
from warmd.http.files import Files
from warmd.http.filestore import Sink
from warmd.http.options import Options
from warmd.http.outfiles import content_of
from warmd.http.outputs import Outputs
from warmd.http.plainjson import plain
from warmd.http.problems import HttpProblem
from warmd.http.task import Facts
from warmd.protocol.buffers import Array
from warmd.protocol.values import pack, unpack

FACTS = Facts("open", "zoo", "run", b"null", 0.0, base_url="http://x")


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    files = Files(tmp_path, Options(max_file_bytes=2**20), no_calls)
    await files.open()
    yield files
    await files.close()


async def told(files: Files, value: Any) -> Any:
    return json.loads(await Outputs(files).encoded(value, FACTS))


def data_of(files: Files, stand_in: Any) -> bytes:
    return files.path(files.find(urlsplit(stand_in["uri"]).path.split("/")[2])).read_bytes()


def all_of(files: Files) -> list[Path]:
    return [*files._store.folder.glob("file_*")]


@given(VALUES)
def test_whatever_can_travel_is_told_or_refused(value: Any) -> None:
    try:
        made = plain(unpack(pack(value)), lambda _: {"uri": "x"})
    except TypeError:
        return
    text = orjson.dumps(made)
    assert orjson.dumps(json.loads(text)) == text


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_what_json_has_comes_back(value: Any) -> None:
    async def main() -> bytes:
        return await Outputs(None).encoded(value, FACTS)  # type: ignore[arg-type]

    assert json.loads(asyncio.run(main())) == value


@pytest.mark.parametrize(
    ("value", "json_value"),
    [
        (math.nan, None),
        (math.inf, None),
        (2**64 - 1, 2**64 - 1),
        ((1, (2,)), [1, [2]]),
        ({5}, [5]),
        (1 + 2j, {"real": 1.0, "imag": 2.0}),
        ("a\ud800", "a\ufffd\ufffd\ufffd"),
        ({1: 2, None: 3, (1, 2): 4, 1.5: 5, b"k": 6}, {"1": 2, "null": 3, "[1,2]": 4, "1.5": 5, "k": 6}),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.longdouble(1.5), 1.5),
        (np.datetime64("2020-01-02"), "2020-01-02"),
        (np.datetime64("NaT"), None),
        (np.str_("a"), "a"),
        (Array("<f8", (), "C", np.float64(1.5).tobytes(), scalar=True), 1.5),
    ],
)
async def test_what_json_lacks_is_told_as_the_next_best(files: Files, value: Any, json_value: Any) -> None:
    assert await told(files, value) == json_value
    assert await told(files, [value]) == [json_value]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({1: 0, "1": 0}, "the same as text: '1'"),
        (object(), "return text, numbers"),
        (Array("<M8[s]", (), "C", bytes(8), scalar=True), "install numpy"),
        (Array([["<f8", [2]]], (1,), "C", bytes(16)), "install numpy"),
    ],
)
async def test_what_cannot_be_told_is_refused_and_leaves_nothing(
    files: Files, tmp_path: Path, value: Any, says: str
) -> None:
    with pytest.raises(HttpProblem, match=says):
        await told(files, [b"a file before it", value])
    assert [*(tmp_path / "files").glob("file_*")] == []
    assert files._room.held == 0


async def test_too_deep_is_refused(files: Files) -> None:
    value: Any = 1
    for _ in range(400):
        value = [value]
    with pytest.raises(HttpProblem, match="cannot be told as JSON"):
        await told(files, value)


@pytest.mark.parametrize(
    ("data", "kind", "name"),
    [
        (b"\x89PNG\r\n\x1a\n..", "image/png", "file.png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg", "file.jpg"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav", "file.wav"),
        (b"\0\0\0\x18ftypmp42", "video/mp4", "file.mp4"),
        (b"", "application/octet-stream", "file.bin"),
    ],
)
async def test_bytes_are_files_named_by_their_beginning(
    files: Files, data: bytes, kind: str, name: str
) -> None:
    one = await told(files, data)
    assert one.keys() == {"uri", "content_type", "size", "filename"}
    assert (one["content_type"], one["filename"], one["size"]) == (kind, name, len(data))
    assert data_of(files, one) == data


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.ones((2, 3), "<i2")), np.zeros((0, 2)), np.ones(())],
)
async def test_arrays_are_npy_files_also_where_there_is_no_numpy(files: Files, array: np.ndarray) -> None:
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    stand_in = Array(array.dtype.str, array.shape, order, array.tobytes(order))
    for value in (array, stand_in):
        one = await told(files, {"a": value})
        assert one["a"]["content_type"] == "application/x-npy"
        back = np.load(io.BytesIO(data_of(files, one["a"])))
        assert back.dtype == array.dtype and np.array_equal(back, array)


async def test_tables_are_arrow_files(files: Files) -> None:
    table = pa.table({"a": [1, 2]})
    for value in (table, table.to_batches()[0]):
        one = await told(files, value)
        assert pa.ipc.open_file(data_of(files, one)).read_all() == table


async def test_tensors_are_npy_files(files: Files) -> None:
    torch = pytest.importorskip("torch")
    one = await told(files, torch.ones(3, dtype=torch.bfloat16))
    back = np.load(io.BytesIO(data_of(files, one)))
    assert back.dtype == np.float32 and back.tolist() == [1, 1, 1]


async def test_a_file_is_copied_and_may_then_change(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    path.write_text("<svg>")
    one = await told(files, warmd.File(path))
    assert (one["filename"], one["content_type"]) == ("plot.svg", "image/svg+xml")
    path.write_text("other")
    assert data_of(files, one) == b"<svg>"
    gone = warmd.File(path)
    path.unlink()
    with pytest.raises(HttpProblem, match="it has to stay until"):
        await told(files, gone)


@pytest.mark.parametrize("kind", ["text/html\r\nX: 1", "png", "text/plain\u2028"])
async def test_a_type_that_no_header_can_have_is_refused(files: Files, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    with pytest.raises(HttpProblem, match="content_type: expected one such as image/png, got '"):
        await told(files, warmd.File(path, content_type=kind))
    assert all_of(files) == []


async def test_too_large_and_a_full_disk_say_so(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HttpProblem, match="limit is 1048576") as caught:
        await told(files, np.zeros(2**18))
    assert caught.value.code == "TOO_LARGE"

    def full(_sink: Sink, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Sink, "write", full)
    with pytest.raises(HttpProblem, match="disk is full") as caught:
        await told(files, b"x")
    assert (caught.value.code, files._room.held, all_of(files)) == ("FILES_FULL", 0, [])


async def test_a_part_is_written_once_for_all_who_follow(files: Files) -> None:
    outputs = Outputs(files)
    value = {"image": b"x"}
    first, *others = await asyncio.gather(
        *(outputs.encoded(value, FACTS, ("call", 0)) for _ in range(5)),
        outputs.encoded(value, FACTS, ("call", 1)),
    )
    assert len({first, *others}) == 2 and len(all_of(files)) == 2


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_part_that_is_the_end_is_there_at_the_end(files: Files, is_gone: bool) -> None:
    outputs = Outputs(files)

    async def parts() -> int:
        return 1

    first = json.loads(await outputs.encoded(b"x", FACTS, ("call", 0)))
    (path,) = (file / ".record" for file in all_of(files))
    os.utime(path, (0, 0))
    if is_gone:
        files._drop(files._sweep(0.0))
        assert all_of(files) == []
    last = json.loads(await outputs.encoded_end(b"x", FACTS, "call", parts))
    assert data_of(files, last) == b"x" and len(all_of(files)) == 1
    assert first == last
    await outputs.close()
    assert outputs._bytes == sum(len(task.result().json) for task in outputs._parts.values())


async def test_all_gateways_tell_the_same_files(files: Files, tmp_path: Path) -> None:
    other = Files(tmp_path, Options(max_file_bytes=2**20), no_calls)
    await other.open()

    async def parts() -> int:
        return 0

    value = [b"x", {"a": b"\x89PNG\r\n\x1a\n"}]
    first, second, third = [
        json.loads(await Outputs(one).encoded_end(value, FACTS, call, parts))
        for one, call in ((files, "call"), (other, "call"), (other, "another"))
    ]
    assert first == second and first[0] != third[0] and len(all_of(files)) == 4
    assert [data_of(files, one) for one in (first[0], first[1]["a"])] == [b"x", value[1]["a"]]  # type: ignore[index]
    with pytest.raises(HttpProblem, match="cannot be told"):
        await Outputs(other).encoded_end([b"x", object()], FACTS, "call", parts)
    assert data_of(files, first[0]) == b"x"  # it was the other's
    for one in await other.named_in(second):
        await other.delete(one.id)
    assert await files.named_in(first) == []
    await other.close()


async def test_few_parts_are_remembered(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmd.http.outputs.MOST_PARTS", 2)
    outputs = Outputs(files)
    for number in range(5):
        await outputs.encoded(b"x", FACTS, ("call", number))
    await outputs.close()
    assert [*outputs._parts] == [("call", 3), ("call", 4)]
    assert outputs._bytes == sum(len(task.result().json) for task in outputs._parts.values())


def test_what_is_no_file_is_told_from_files() -> None:
    assert content_of("text") is None and content_of(object()) is None


def test_an_apps_files_are_read_at_their_addresses(gateway: GatewayProcess, tmp_path: Path) -> None:
    one = gateway.run("give", {"path": str(tmp_path / "a.txt"), "text": "hello"}, app="filer")["output"]
    assert httpx.get(one["uri"]).text == "hello"
    output = gateway.run("arrays", app="filer")["output"]
    assert np.load(io.BytesIO(httpx.get(output["array"]["uri"]).content)).shape == (2, 3)
    assert output["odd"]["t"] == [{"real": 0.0, "imag": 1.0}]


def test_all_readers_of_a_part_are_told_one_address(gateway: GatewayProcess, tmp_path: Path) -> None:
    body = {"app": "filer", "function": "pictures", "input": {"n": 1, "folder": str(tmp_path)}}
    task = gateway.client.post("/apps/run", json=body).json()["data"]

    def first_uri() -> str:
        with httpx.stream("GET", f"{gateway.url}/tasks/{task['id']}/stream", timeout=20) as answer:
            return uri_in(answer.iter_lines())

    assert first_uri() == first_uri()
    (tmp_path / "0").touch()


def test_the_end_of_a_stream_is_not_a_second_file(gateway: GatewayProcess, tmp_path: Path) -> None:
    input = {"n": 2, "folder": str(tmp_path)}
    task = gateway.begin("pictures", input, app="filer")
    with httpx.stream("GET", f"{gateway.url}/tasks/{task['id']}/stream", timeout=20) as answer:
        lines = answer.iter_lines()
        uris = [uri_in(lines)]
        (tmp_path / "0").touch()
        uris.append(uri_in(line for line in lines if uris[0] not in line))
        (tmp_path / "1").touch()
        *_, last = map(json.loads, lines)
    assert last["status"] == 10 and last["output"]["uri"] == uris[1]
    assert httpx.get(uris[1]).content[-1:] == b"\1"


def uri_in(lines: Iterator[str]) -> str:
    return next(str(output["uri"]) for line in lines if (output := json.loads(line)["output"]))
