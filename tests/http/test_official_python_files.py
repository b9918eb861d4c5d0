"""inference.sh's Python client and files: it uploads what looks like one, unasked."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import httpx
import inferencesh
import pytest
from inferencesh import APIError, File
from inferencesh.client import UploadFileOptions

from tests.http.gatewayprocess import GatewayProcess

DIGEST = hashlib.sha256(b"x").hexdigest()


@pytest.fixture
def client(gateway: GatewayProcess) -> inferencesh.Inference:
    return inferencesh.inference(api_key="wk_any", base_url=gateway.url)


def reading(path: Any) -> dict[str, Any]:
    return {"app": "filer", "function": "read", "input": {"path": path}}


def local(folder: Path) -> str:
    (folder / "a note.txt").write_text("from a path")
    return str(folder / "a note.txt")


def data_address(text: str) -> str:
    return "data:text/plain;base64," + base64.b64encode(text.encode()).decode()


def test_a_path_of_the_clients(client: inferencesh.Inference, tmp_path: Path) -> None:
    output = client.run(reading(local(tmp_path)))["output"]
    assert output["text"] == "from a path" and output["name"].endswith(".txt")


def test_a_data_address(client: inferencesh.Inference) -> None:
    assert client.run(reading(data_address("from data")))["output"]["text"] == "from data"


def test_what_looks_like_base64_becomes_a_file_and_the_run_goes_well(client: inferencesh.Inference) -> None:
    task = client.run({"app": "zoo:echo", "input": {"digest": DIGEST, "n": [1, {"word": "short"}]}})
    assert task["output"]["n"] == [1, {"word": "short"}]
    assert Path(task["output"]["digest"]).read_bytes() == base64.b64decode(DIGEST)


def test_a_file_object(client: inferencesh.Inference, tmp_path: Path) -> None:
    assert client.run(reading(File(path=local(tmp_path))))["output"]["text"] == "from a path"


def test_an_upload_that_was_asked_for(client: inferencesh.Inference) -> None:
    options = UploadFileOptions(filename="b.txt", content_type="text/plain")
    file = client.files.upload(b"from bytes", options)
    assert httpx.get(file["uri"]).content == b"from bytes"
    assert client.run(reading(file["uri"]))["output"] == {"name": "b.txt", "text": "from bytes"}


def test_an_output_that_is_a_file(client: inferencesh.Inference) -> None:
    image = client.run({"app": "zoo", "function": "picture", "input": {}})["output"]["image"]
    assert httpx.get(image["uri"]).content.startswith(b"\x89PNG")
    assert image["content_type"] == "image/png"


def test_the_files_of_a_task(client: inferencesh.Inference, gateway: GatewayProcess, tmp_path: Path) -> None:
    input = client.files.upload(b"in", UploadFileOptions(filename="b.txt"))
    given = {"path": input["uri"], "gate": str(tmp_path / "gate")}
    task = gateway.begin("copy", given, app="filer")
    with pytest.raises(APIError, match="has not ended"):
        client.tasks.delete_files(task["id"])
    (tmp_path / "gate").touch()
    output = client.wait_for_completion(task["id"])["output"]
    told = {file["role"]: file["uri"] for file in client.tasks.files(task["id"]).data}
    assert told == {"input": input["uri"], "output": output["uri"]}
    with pytest.raises(APIError, match="expected input or output"):
        client.tasks.files(task["id"], role="none")
    done = client.tasks.delete_files(task["id"], role="output").data
    assert len(done["deleted"]) == 1 and done["skipped"] == []
    assert [file["role"] for file in client.tasks.files(task["id"]).data] == ["input"]
    assert (httpx.get(output["uri"]).status_code, httpx.get(input["uri"]).content) == (404, b"in")


async def test_async_uploads(gateway: GatewayProcess, tmp_path: Path) -> None:
    client = inferencesh.async_inference(api_key="wk_any", base_url=gateway.url)
    for path, text in ((local(tmp_path), "from a path"), (data_address("from data"), "from data")):
        assert (await client.run(reading(path)))["output"]["text"] == text
    task = await client.run({"app": "zoo:echo", "input": {"digest": DIGEST}})
    assert Path(task["output"]["digest"]).read_bytes() == base64.b64decode(DIGEST)
    file = await client.files.upload(b"from bytes", UploadFileOptions(filename="b.txt"))
    assert (await client.run(reading(file["uri"])))["output"]["text"] == "from bytes"
