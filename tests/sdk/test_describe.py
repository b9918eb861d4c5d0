"""What an app's functions take and give, asked of a real daemon."""

from __future__ import annotations

import os

import pytest

import warmd
from tests.faults.watch import until, within

APP = '''
class App:
    """Counts."""

    def setup(self, start: int = 0):
        raise AssertionError("setup is not run")

    def run(self, by: int = 1) -> int:
        """Counts on.

        by: how far
        """
'''


@pytest.fixture(scope="module")
def client():
    with warmd.local(start_timeout=20) as client:
        client.status()
        yield client


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_functions_are_told_with_what_they_take(client, app):
    told = client.describe(str(app))
    assert (told["app"], told["doc"], told["default_function"]) == (str(app), "Counts.", "run")
    (run,) = told["functions"]
    by = run["input_schema"]["properties"]["by"]
    assert by == {"type": "integer", "default": 1, "description": "how far"}
    assert run["output_schema"] == {"type": "integer"}
    assert told["setup_schema"] is not None
    assert told["found"]["target"] == "app:App"
    assert told["found"]["asks"] == {}


def test_an_edit_is_seen_and_an_answer_comes_soon_again(client, app):
    client.describe(str(app))
    with within(1.0):
        client.describe(str(app))
    (app / "app.py").write_text(APP.replace("def run", "def walk"))
    assert [function["name"] for function in client.describe(str(app))["functions"]] == ["walk"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("raise ImportError('no torch')\nclass App: ...", "importing the app failed: ImportError: no torch"),
        ("import os\nos._exit(3)\nclass App: ...", "its worker exited with code 3"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\nclass App: ...", "killed by SIGSEGV"),
    ],
)
def test_an_import_that_fails_is_told(client, app, source, text):
    (app / "app.py").write_text(source)
    with pytest.raises(warmd.StartFailed, match=text) as failed:
        client.describe(str(app))
    assert failed.value.ran == "no"


HANGS = """
import os
import time
from pathlib import Path

Path(__file__).with_name("pid").write_text(str(os.getpid()))
time.sleep(600)

class App: ...
"""


def test_an_import_that_hangs_is_ended_and_delays_nobody(client, app):
    (app / "app.py").write_text(HANGS)
    (app / "app.toml").write_text("start_timeout = 2")
    with within(5.0), pytest.raises(warmd.StartFailed, match=r"longer than start_timeout \(2 s\)"):
        client.describe(str(app))
    assert client.describe("counter")["app"] == "counter"
    pid = int((app / "pid").read_text())
    until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_what_cannot_be_described(client):
    with pytest.raises(warmd.AppNotFound):
        client.describe("no-such-app")
    with pytest.raises(warmd.Invalid, match="can only be described from a file"):
        client.describe(type("Made", (), {"run": print}))


async def test_awaited(client, app):
    async with warmd.AsyncClient(client.address) as other:
        assert (await other.describe(str(app)))["doc"] == "Counts."
