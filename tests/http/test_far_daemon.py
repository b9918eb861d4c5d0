"""A gateway whose daemon is reached over TCP: no path of one machine is taken for one of the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import warmd
from tests.http.conftest import APPS
from tests.http.gatewayprocess import GatewayProcess
from tests.http.test_files import code_of, uploaded
from warmd.protocol.keys import KeyFolder
from warmd.protocol.places import keys_dir


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayProcess]:
    with warmd.testing.daemon(listen="tcp://127.0.0.1:0", app_folders=str(APPS)) as daemon:
        monkeypatch.setenv("WARMD_KEY", KeyFolder(keys_dir(daemon.run_dir)).add("gateway").text)
        daemon.reload_keys()
        with GatewayProcess(str(daemon.status().listen), tmp_path) as gateway:
            yield gateway


def test_files_stay_on_their_machine_and_data_travels(far: GatewayProcess, tmp_path: Path) -> None:
    file = uploaded(far.client, b"hello", filename="a")
    body = {"app": "filer", "function": "read", "input": {"path": file["uri"]}}
    refused = far.client.post("/apps/run", json=body)
    assert code_of(refused) == (400, "INVALID")
    assert file["uri"] in refused.json()["detail"] and "warmd serve --http" in refused.json()["detail"]
    task = far.run("give", {"path": str(tmp_path / "secret"), "text": "hello"}, app="filer")
    assert task["status"] == 11 and "return its bytes" in task["error"]
    image = far.run("picture")["output"]["image"]
    assert httpx.get(image["uri"]).content.startswith(b"\x89PNG")
