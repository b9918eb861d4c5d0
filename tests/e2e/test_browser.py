"""The browser's flow end to end: the example as a user runs it, the command line, and JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd
from warmd.http.outfiles import content_of
from warmd.http.plainjson import plain

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
SCRIPT_SECONDS = 50


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local() as client:
        client.status()
        yield client


def output_of(client: warmd.Client, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "WARMD_HOST": client.address},
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_login_step_by_step(client):
    start, *steps, where, shot = output_of(client, str(EXAMPLES / "browser.py")).splitlines()
    assert re.fullmatch(r"start: 'Home' after [\d.]+ s", start)
    assert [step.partition(":")[0] for step in steps] == ["click", "type", "press", "wait_for"]
    assert re.fullmatch(r"now at http://127\.0\.0\.1:\d+/login\?username=user%40example\.com", where)
    assert re.fullmatch(r"screenshot: a PNG of \d{4,} bytes after [\d.]+ s", shot)
    assert client.sessions.list() == []


def test_from_the_command_line(client):
    word = ["-m", "warmd", "run", "browser", "--session", "new"]
    page = "data:text/html,<title>Here</title><button>Go</button>"
    told = output_of(client, *word, "action=start", f"url={page}")
    assert json.loads(told)["title"] == "Here"
    client.sessions.end(all=True)


def test_for_clients_of_the_gateway_a_picture_is_a_file_beside_what_is_plain(client):
    """Its address stands where the bytes were: `output.screenshot`, not the whole output."""
    with client.session("browser") as session:
        output = session.run({"action": "screenshot"}, timeout=30).output
    files = []

    def file_of(value: object) -> dict[str, str] | None:
        if content_of(value) is None:
            return None
        files.append(value)
        return {"uri": "the address"}

    told = json.loads(json.dumps(plain(output, file_of)))
    assert told == {"screenshot": {"uri": "the address"}, "url": "about:blank", "title": "", "tab": 1}
    assert files[0].startswith(b"\x89PNG")
