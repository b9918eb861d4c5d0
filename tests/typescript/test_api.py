"""The session API of the example's server: a browser for each user."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.faults.watch import until
from tests.http.gatewayprocess import GatewayProcess
from tests.typescript.express import Express
from warmd.owndaemon import LocalClient

LIMIT_SECONDS = 30.0
User = Callable[..., tuple[int, dict]]
NewUser = Callable[..., User]


@pytest.fixture
def new_user(express: Express, daemon: LocalClient) -> Iterator[NewUser]:
    """Makes users: each has cookies of their own, and posts to an action of the API."""
    with ExitStack() as stack:

        def made(url: str = express.url) -> User:
            client = stack.enter_context(httpx.Client(base_url=url, timeout=LIMIT_SECONDS))

            def post(action: str, body: object = None) -> tuple[int, dict]:
                answer = client.post(f"/api/browser/{action}", json=body)
                return answer.status_code, answer.json()

            return post

        yield made
        daemon.sessions.end(all=True)


def test_start_act_and_end(new_user: NewUser, site: str, daemon: LocalClient, express: Express) -> None:
    user = new_user()
    status, started = user("start", {"url": site})
    assert status == 200 and re.fullmatch(r"sess_[0-9a-f]{32}", started["sessionId"])
    assert user("action", {"action": "click", "selector": "#login-btn"})[0] == 200
    user("action", {"action": "wait_for", "url": "**/login"})
    status, shot = user("action", {"action": "screenshot"})
    assert (status, shot["title"]) == (200, "Log in")
    here = express.url + httpx.URL(shot["screenshot"]["uri"]).path
    picture = httpx.get(here)
    assert picture.content.startswith(b"\x89PNG") and "sandbox" in picture.headers["content-security-policy"]
    assert user("end") == (200, {"ok": True})
    assert daemon.sessions.list() == [], "the session is ended, not only forgotten"
    assert user("action", {"action": "screenshot"}) == (400, {"error": "No active session"})
    assert user("end") == (200, {"ok": True})


def test_each_user_has_one_session(new_user: NewUser, site: str, daemon: LocalClient) -> None:
    one, other = new_user(), new_user()
    first = one("start", {"url": site})[1]["sessionId"]
    started = [one("start", {"url": site}), other("start", {"url": f"{site}/login"})]
    ids = {answer["sessionId"] for _, answer in started}
    assert {info["id"] for info in daemon.sessions.list()} == ids, "a second start ends the first session"
    assert len(ids) == 2 and first not in ids
    assert one("action", {"action": "text"})[1]["title"] == "Home"
    assert other("action", {"action": "text"})[1]["title"] == "Log in"
    one("end")
    assert other("action", {"action": "text"})[0] == 200


def test_a_session_that_expires(
    new_user: NewUser, gateway: GatewayProcess, key: str, daemon: LocalClient
) -> None:
    with Express(gateway.url, key, session_timeout=1) as express:
        user = new_user(express.url)
        id = user("start")[1]["sessionId"]
        until(lambda: daemon.sessions.get(id)["state"] == "expired")
        assert user("action", {"action": "text"}) == (400, {"error": "Session expired"})
        assert user("action", {"action": "text"}) == (400, {"error": "No active session"})


def test_errors_of_the_app_leave_the_session(new_user: NewUser, site: str) -> None:
    user = new_user()
    user("start", {"url": site})
    status, problem = user("action", {"action": "goto", "url": "http://127.0.0.1:1/session"})
    assert status == 500 and "cannot be loaded" in problem["error"]
    assert user("action", {"action": "text"})[0] == 200


def test_a_start_that_fails_leaves_no_browser_behind(new_user: NewUser, daemon: LocalClient) -> None:
    user = new_user()
    status, problem = user("start", {"url": "http://127.0.0.1:1/"})
    assert status == 500 and "cannot be loaded" in problem["error"]
    assert daemon.sessions.list() == []
    assert user("action", {"action": "text"}) == (400, {"error": "No active session"})


def test_a_made_up_cookie_is_nobody(express: Express) -> None:
    forged = {"Cookie": f"user={'0' * 8}-{'0' * 4}-{'0' * 4}-{'0' * 4}-{'0' * 12}.{'0' * 64}"}
    answer = httpx.post(f"{express.url}/api/browser/action", json={}, headers=forged)
    assert answer.json() == {"error": "No active session"}
    assert "HttpOnly" in answer.headers["set-cookie"]


def test_pages_of_other_sites_are_turned_away(express: Express) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert httpx.post(f"{express.url}/api/browser/start", headers=headers).status_code == 403
    assert httpx.post(f"{express.url}/api/inference/proxy", headers=headers).status_code == 403


def test_without_a_gateway(new_user: NewUser, key: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Express(f"http://127.0.0.1:{nobody.getsockname()[1]}", key) as express:
            status, problem = new_user(express.url)("start")
    assert (status, problem["error"]) == (502, "The gateway cannot be reached")
