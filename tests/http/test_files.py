"""Files over HTTP: announced, written, read, used as inputs, and gone again."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.faults.watch import until
from tests.http.gatewayprocess import PATIENCE_SECONDS, GatewayProcess
from warmd.http.contents import MOST_NAME_BYTES, safe_name
from warmd.owndaemon import LocalClient

MIB = 2**20


def announced(http: httpx.Client, **file: Any) -> Any:
    (one,) = http.post("/files", json={"files": [{"uri": "", **file}]}).raise_for_status().json()["data"]
    return one


def uploaded(http: httpx.Client, data: bytes, **file: Any) -> Any:
    one = announced(http, **file)
    httpx.put(one["upload_url"], content=data).raise_for_status()
    return one


def read(gateway: GatewayProcess, text: Any, **input: Any) -> Any:
    return gateway.run("read", {"path": text, **input}, app="filer")


def kept(gateway: GatewayProcess) -> list[Path]:
    return [path for path in (gateway.folder / "files").glob("file_*/*") if path.name[0] != "."]


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture
def alone(daemon: LocalClient, tmp_path: Path) -> Iterator[Any]:
    """Starts gateways of this test's own, all in one folder."""
    running = []

    def start(**options: Any) -> GatewayProcess:
        running.append(GatewayProcess(daemon.address, tmp_path / "gateway", **options))
        return running[-1]

    (tmp_path / "gateway").mkdir()
    yield start
    for gateway in running:
        gateway.close()


def test_what_is_uploaded_comes_back(http: httpx.Client) -> None:
    file = uploaded(http, b"hello", filename="a b.txt", content_type="text/plain", size=5)
    answer = httpx.get(file["uri"])
    assert (answer.content, answer.headers["content-length"]) == (b"hello", "5")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    part = httpx.get(file["uri"], headers={"Range": "bytes=1-2"})
    assert (part.status_code, part.content) == (206, b"el")
    told = http.get(f"/files/{file['id']}").json()["data"]
    assert (told["size"], told["filename"], told["uri"]) == (5, "a b.txt", file["uri"])


@pytest.mark.parametrize("asked", ["bytes=5-9", "bytes", "lines=1-2", "bytes=3-1"])
def test_a_range_that_is_none_is_a_problem(http: httpx.Client, asked: str) -> None:
    file = uploaded(http, b"hello", filename="a")
    answer = httpx.get(file["uri"], headers={"Range": asked})
    assert code_of(answer) == (416, "BAD_RANGE")
    assert asked in answer.json()["detail"] and "5 bytes" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml"])
def test_what_can_hold_a_script_is_saved_and_not_shown(http: httpx.Client, kind: str) -> None:
    file = uploaded(http, b"<script>", filename='x"\r\nSet-Cookie: a=b', content_type=kind)
    headers = httpx.get(file["uri"]).headers
    assert headers["content-disposition"].startswith("attachment")
    assert "set-cookie" not in headers


def test_each_address_has_a_secret_of_its_own(http: httpx.Client) -> None:
    file = uploaded(http, b"x", filename="a")
    assert code_of(httpx.put(file["uri"], content=b"y")) == (404, "NOT_FOUND")
    assert code_of(httpx.get(file["upload_url"])) == (404, "NOT_FOUND")
    head, _, name = file["uri"].rpartition("/")
    assert len(head.rpartition("/")[2]) >= 22
    assert code_of(httpx.get(f"{head[:-1]}{'A' if head[-1] != 'A' else 'B'}/{name}")) == (404, "NOT_FOUND")
    other = announced(http, filename="b")["id"]
    assert code_of(httpx.get(file["uri"].replace(file["id"], other))) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "name", ["../../../etc/x", "/etc/passwd", "..\\..\\x", "..", ".record", "a\0b", "n" * 300 + ".png", "/"]
)
def test_no_name_leads_out_of_the_folder(gateway: GatewayProcess, http: httpx.Client, name: str) -> None:
    file = uploaded(http, b"x", filename=name)
    (path,) = (path for path in kept(gateway) if file["id"] in path.parts)
    assert path == gateway.folder / "files" / file["id"] / file["filename"]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert httpx.get(file["uri"]).content == b"x"


@given(st.text(), st.sampled_from(["image/png", "", "a/b"]))
def test_names_are_safe(name: str, kind: str) -> None:
    safe = safe_name(name, kind)
    assert safe and safe[0] != "." and "/" not in safe and safe.isprintable()
    assert len(safe.encode()) <= MOST_NAME_BYTES
    assert safe_name(safe, kind) == safe


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ({}, "INVALID", "expected 1 to 1000 files"),
        ({"files": [{"filename": 3}]}, "INVALID", "filename"),
        ({"files": [{"content_type": "a\r\nb: c"}]}, "INVALID", "such as image/png"),
        ({"files": [{"sise": 3}]}, "INVALID", "did you mean 'size'"),
        ({"files": [{"size": -1}]}, "INVALID", "number of bytes"),
        ({"files": [{"filename": "a", "size": 2**40}]}, "TOO_LARGE", "limit is 1073741824"),
    ],
)
def test_announcements_are_checked(http: httpx.Client, body: Any, code: str, says: str) -> None:
    problem = http.post("/files", json=body).json()
    assert problem["code"] == code and says in problem["detail"]


def test_an_app_gets_the_path_of_an_upload(gateway: GatewayProcess, http: httpx.Client) -> None:
    file = uploaded(http, b"hello", filename="a.txt")
    task = read(gateway, file["uri"])
    assert task["output"] == {"name": "a.txt", "text": "hello"}
    assert task["input"]["path"] == file["uri"]
    deep = [{"a": [file["uri"], 3, file["uri"] + "?", "https://x.org/content/1/2/3"]}]
    (told,) = gateway.run("echo", deep)["output"]
    assert Path(told["a"][0]).read_bytes() == b"hello"
    assert told["a"][1:] == deep[0]["a"][1:]


def test_an_address_that_is_not_to_be_had_is_refused(http: httpx.Client) -> None:
    file = announced(http, filename="a")
    body = {"app": "zoo", "function": "echo", "input": {"x": file["uri"]}}
    assert "nothing was uploaded" in http.post("/apps/run", json=body).json()["detail"]
    assert http.delete(f"/files/{file['id']}").status_code == 204
    answer = http.post("/apps/run", json=body)
    assert code_of(answer) == (400, "INVALID") and file["uri"] in answer.json()["detail"]


def test_the_last_whole_upload_stays(http: httpx.Client) -> None:
    file = uploaded(http, b"first", filename="a")
    httpx.put(file["upload_url"], content=b"second one").raise_for_status()
    assert httpx.get(file["uri"]).content == b"second one"


def test_large_uploads_pass_through_little_memory(gateway: GatewayProcess, http: httpx.Client) -> None:
    uploaded(http, b"x", filename="a")
    before = peak_bytes(gateway)
    file = announced(http, filename="large")
    block = bytes(range(256)) * 4096
    httpx.put(file["upload_url"], content=(block for _ in range(64)), timeout=30).raise_for_status()
    size = 0
    with httpx.stream("GET", file["uri"]) as answer:
        for chunk in answer.iter_bytes():
            size += len(chunk)
    assert size == 64 * MIB
    assert peak_bytes(gateway) - before < 24 * MIB


def peak_bytes(gateway: GatewayProcess) -> int:
    text = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def test_an_upload_that_breaks_off_leaves_nothing(alone: Any) -> None:
    gateway = alone(files_max_bytes=4 * MIB)
    url = urlsplit(announced(gateway.client, filename="a")["upload_url"])
    folder = gateway.folder / "files"
    with socket.create_connection((url.hostname, url.port)) as sock:
        head = f"PUT {url.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {3 * MIB}\r\n\r\n"
        sock.sendall(head.encode() + bytes(2 * MIB))
        until(lambda: [*folder.rglob(".part-*")])
    until(lambda: not [*folder.rglob(".part-*")])
    assert kept(gateway) == []
    uploaded(gateway.client, bytes(3 * MIB), filename="b")  # the room was given back


def test_limits_name_themselves(alone: Any) -> None:
    gateway = alone(max_file_bytes=2 * MIB, files_max_bytes=3 * MIB)
    file = announced(gateway.client, filename="a")
    for content in (bytes(2 * MIB + 1), (bytes(MIB) for _ in range(3))):
        answer = httpx.put(file["upload_url"], content=content)
        assert code_of(answer) == (413, "TOO_LARGE")
        told = answer.json()["detail"]
        assert f"limit is {2 * MIB}" in told and "--max-file-bytes" in told and "as files" not in told
    httpx.put(file["upload_url"], content=bytes(2 * MIB)).raise_for_status()
    answer = httpx.put(announced(gateway.client)["upload_url"], content=(bytes(MIB) for _ in range(2)))
    assert code_of(answer) == (507, "FILES_FULL") and "DELETE /files" in answer.json()["detail"]
    gateway.client.delete(f"/files/{file['id']}")
    uploaded(gateway.client, bytes(2 * MIB))


def test_files_outlive_the_gateway(alone: Any) -> None:
    first = alone(public_url="http://files.test")
    file = uploaded_by_path(first, b"hello")
    part = first.folder / "files" / file["id"] / ".part-1"
    part.touch()
    first.close()
    second = alone(public_url="http://files.test")
    assert second.client.get(urlsplit(file["uri"]).path).content == b"hello"
    assert not part.exists()
    assert read(second, file["uri"])["output"]["text"] == "hello"


def test_two_gateways_of_a_daemon_have_the_same_files(alone: Any) -> None:
    first = alone()
    file = announced(first.client, filename="a")
    url = urlsplit(file["upload_url"])
    with socket.create_connection((url.hostname, url.port), timeout=PATIENCE_SECONDS) as sock:
        sock.sendall(f"PUT {url.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * MIB}\r\n\r\n".encode())
        sock.sendall(bytes(MIB))
        until(lambda: [*first.folder.rglob(".part-*")])
        second = alone()
        sock.sendall(bytes(MIB))
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
    assert second.client.get(urlsplit(file["uri"]).path).content == bytes(2 * MIB)
    httpx.put(file["upload_url"], content=b"hello").raise_for_status()
    assert read(second, file["uri"])["output"]["text"] == "hello"
    assert second.client.delete(f"/files/{file['id']}").status_code == 204
    assert code_of(first.client.get(f"/files/{file['id']}")) == (404, "NOT_FOUND")


def test_a_file_in_use_at_one_gateway_stays_at_all(alone: Any) -> None:
    first, second = (alone(file_seconds=2.0) for _ in range(2))
    file = uploaded(first.client, b"hello", filename="a")
    end = expires_at(second, file) + datetime.timedelta(seconds=2)
    until(lambda: read(first, file["uri"])["status"] == 10 and expires_at(second, file) > end)


def uploaded_by_path(gateway: GatewayProcess, data: bytes) -> Any:
    file = announced(gateway.client, filename="a")
    gateway.client.put(urlsplit(file["upload_url"]).path, content=data).raise_for_status()
    return file


@pytest.mark.parametrize("is_restarted", [False, True])
def test_files_expire_and_those_that_a_call_has_stay_until_its_end(
    alone: Any, tmp_path: Path, is_restarted: bool
) -> None:
    gateway = alone(file_seconds=1.0)
    file, used = (uploaded(gateway.client, b"hello", filename=name) for name in "ab")
    input = {"path": used["uri"], "gate": str(tmp_path / "gate")}
    task = gateway.begin("read", input, app="filer")
    expiry = expires_at(gateway, used)
    if is_restarted:
        gateway.close()
        gateway = alone(file_seconds=1.0)
    until(lambda: datetime.datetime.now(datetime.UTC) > expiry + datetime.timedelta(seconds=1))
    assert [path.parent.name for path in kept(gateway)] == [used["id"]]
    assert code_of(gateway.client.get(f"/files/{file['id']}")) == (404, "NOT_FOUND")
    assert gateway.client.get(urlsplit(file["uri"]).path).status_code == 404
    (tmp_path / "gate").touch()
    last = gateway.client.get(f"/tasks/{task['id']}/stream").text.splitlines()[-1]
    assert '"text":"hello"' in last
    until(lambda: not kept(gateway))


def expires_at(gateway: GatewayProcess, file: Any) -> datetime.datetime:
    """When it may go, if nobody uses it."""
    told = gateway.client.get(f"/files/{file['id']}").json()["data"]
    return datetime.datetime.fromisoformat(told["expires_at"])
