"""examples/python/session_api.py as a process: a browser for each user, over HTTP."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

import warmd
from tests.faults.watch import until

SCRIPT = Path(__file__).parents[2] / "examples" / "python" / "session_api.py"
LIMIT_SECONDS = 30.0
LOGIN = "data:text/html,<title>Log in</title><input id=username>"
HOME = "data:text/html,<title>Home</title>"
User = Callable[..., tuple[int, dict]]


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local() as client:
        client.status()
        yield client


@contextmanager
def serving(client: warmd.Client, session_timeout: int) -> Iterator[str]:
    """The address of the API."""
    environment = {
        **os.environ, "WARMD_HOST": client.address, "PORT": "0", "SESSION_TIMEOUT": str(session_timeout)
    }  # fmt: skip
    command = [sys.executable, str(SCRIPT)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = next(filter(None, (re.search(r"running on (http://\S+)", line) for line in process.stderr)))
        yield told[1]
        process.terminate()
        process.communicate(timeout=LIMIT_SECONDS)


@pytest.fixture(scope="module")
def api(client: warmd.Client) -> Iterator[str]:
    with serving(client, session_timeout=60) as url:
        yield url


@pytest.fixture
def new_user(api: str, client: warmd.Client) -> Iterator[Callable[..., User]]:
    """Makes users: each has cookies of their own, and posts to an action of the API."""
    with ExitStack() as stack:

        def made(url: str = api, **headers: str) -> User:
            http = stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=LIMIT_SECONDS))

            def post(action: str, body: object = None) -> tuple[int, dict]:
                answer = http.post(f"/api/browser/{action}", json=body)
                return answer.status_code, answer.json()

            return post

        yield made
        client.sessions.end(all=True)


def test_start_act_and_end(new_user, client):
    user = new_user()
    status, started = user("start", {"url": LOGIN})
    assert (status, [info["id"] for info in client.sessions.list()]) == (200, [started["sessionId"]])
    assert user("action", {"action": "type", "selector": "#username", "text": "ada"})[0] == 200
    status, shot = user("action", {"action": "screenshot"})
    assert (status, shot["title"]) == (200, "Log in")
    assert base64.b64decode(shot["screenshot"]).startswith(b"\x89PNG")
    assert user("end") == (200, {"ok": True})
    assert client.sessions.list() == [], "the session is ended, not only forgotten"
    assert user("action", {"action": "screenshot"}) == (400, {"error": "No active session"})


def test_each_user_has_one_session(new_user, client):
    one, other = new_user(), new_user()
    first = one("start", {"url": HOME})[1]["sessionId"]
    ids = [one("start", {"url": HOME})[1]["sessionId"], other("start", {"url": LOGIN})[1]["sessionId"]]
    assert {info["id"] for info in client.sessions.list()} == set(ids) and first not in ids
    assert one("action", {"action": "text"})[1]["title"] == "Home"
    assert other("action", {"action": "text"})[1]["title"] == "Log in"


def test_a_session_that_expires(new_user, client):
    with serving(client, session_timeout=1) as url:
        user = new_user(url)
        id = user("start")[1]["sessionId"]
        until(lambda: client.sessions.get(id)["state"] == "expired")
        assert user("action", {"action": "text"}) == (400, {"error": "Session expired"})
        assert user("action", {"action": "text"}) == (400, {"error": "No active session"})


def test_errors_leave_the_session_and_a_start_that_fails_leaves_none(new_user, client):
    user = new_user()
    status, problem = user("start", {"url": "http://127.0.0.1:1/"})
    assert status == 500 and "cannot be loaded" in problem["error"] and client.sessions.list() == []
    assert user("start", [1]) == (400, {"error": "expected a JSON object"})
    user("start", {"url": HOME})
    assert user("action", {"action": "goto", "url": "http://127.0.0.1:1/"})[0] == 500
    assert user("action", {"action": "text"})[0] == 200


def test_strangers_are_nobody_and_other_sites_are_turned_away(new_user):
    forged = new_user(Cookie=f"user={'0' * 32}.{'0' * 64}")
    assert forged("action", {"action": "text"}) == (400, {"error": "No active session"})
    assert new_user(**{"Sec-Fetch-Site": "cross-site"})("start")[0] == 403
