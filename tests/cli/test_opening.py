"""`warmd open`: the page in a browser, and its key nowhere else."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import warmd
from tests.cli.shell import Shell
from warmd.http.serving import Serving, announced
from warmd.owndaemon import LocalClient
from warmd.protocol import places


@pytest.fixture(scope="module")
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon() as found:
        found.status()
        yield found


@pytest.fixture
def folder(daemon: LocalClient) -> Path:
    return places.path_of(daemon.address).parent / "http"


@pytest.fixture
def shell(daemon: LocalClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    return Shell(daemon.address, capsys)


@pytest.fixture
def serving(folder: Path) -> Iterator[str]:
    with announced(folder, Serving("http://127.0.0.1:8470", False)):
        yield "http://127.0.0.1:8470"


def test_the_address_has_the_key_in_its_fragment(shell: Shell, serving: str) -> None:
    (first,) = shell("open", "--print")
    assert re.fullmatch(re.escape(serving) + r"/#key=wk_[\w-]{43}", first)
    (second,) = shell("open")
    assert second == first and "there is no browser here" in shell.err
    assert "wk_" not in shell.err


@pytest.mark.usefixtures("serving")
def test_no_browser_is_told_the_key_in_its_command_line(
    shell: Shell, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", str(browser))
    assert shell("open") == []
    assert "warmd: opened http://127.0.0.1:8470/ " in shell.err and "wk_" not in shell.err
    assert (tmp_path / "said").read_text() == f"{(folder / 'open.html').as_uri()}\n"
    page = folder / "open.html"
    assert re.search(r'content="0;url=http://127\.0\.0\.1:8470/#key=wk_[\w-]{43}"', page.read_text())
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


def test_an_open_gateway_needs_none(shell: Shell, folder: Path) -> None:
    with announced(folder, Serving("http://127.0.0.1:1", True)):
        assert shell("open", "--print") == ["http://127.0.0.1:1/"]


@pytest.mark.usefixtures("serving")
def test_another_place_than_where_one_serves_is_refused(shell: Shell) -> None:
    shell("open", "--listen", "127.0.0.1:1")
    assert shell.code == 78
    assert "a gateway serves at http://127.0.0.1:8470 already: leave --listen out" in shell.err


def test_where_none_serves_it_does_until_it_is_told_to_stop(daemon: LocalClient) -> None:
    command = [sys.executable, "-m", "warmd", "--host", daemon.address, "open", "--print"]
    process = subprocess.Popen([*command, "--listen", "127.0.0.1:0"], stdout=-1, stderr=-1, text=True)
    try:
        assert process.stdout is not None
        url, _, key = process.stdout.readline().strip().partition("#key=")
        with httpx.Client(base_url=url) as client:
            assert client.get("/").status_code == 200
            headers = {"Authorization": f"Bearer {key}"}
            answer = client.get("sessions", headers=headers)
            assert answer.json()["data"] == []
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "wk_" not in said
    finally:
        process.kill()
        process.communicate()
    assert os.listdir(places.path_of(daemon.address).parent / "http" / "serving") == []
