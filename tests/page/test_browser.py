"""The dashboard in a real browser: what somebody does with it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

import warmd
from tests.faults.watch import successor, until
from tests.http.gatewayprocess import GatewayProcess
from warmd.http.keys import Keys
from warmd.owndaemon import LocalClient
from warmd.protocol import places

Open = Callable[..., Page]
SOON_MS = 3000
"""What happens is seen sooner."""


@pytest.fixture(autouse=True)
def no_sessions_of_others(daemon: LocalClient) -> Iterator[None]:
    yield
    daemon.sessions.end(all=True)


def row(page: Page, id: str) -> Locator:
    """The session's row in the table."""
    table = page.get_by_role("table", name="Sessions")
    return table.get_by_role("row").filter(has=page.locator(f'a[href="#/session/{id}"]'))


def streams(gateway: GatewayProcess) -> int:
    """How many the gateway tells of."""
    headers = {"Authorization": f"Bearer {Keys(gateway.folder / 'keys').add(os.urandom(4).hex(), ['read'])}"}
    told = gateway.client.get("/metrics", headers=headers).text
    return int(float(re.search(r"^warmd_http_open_streams (\S+)", told, re.MULTILINE)[1]))  # type: ignore[index]


# Who comes in, and as what


def test_the_key_leaves_the_address_and_stays_for_the_tab(open_page: Open, key: str) -> None:
    page = open_page()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    assert key not in page.url
    assert key not in page.evaluate("JSON.stringify([history.state, document.cookie, {...localStorage}])")
    page.reload()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_without_a_key_it_says_how_to_get_one_and_takes_it(open_page: Open, key: str) -> None:
    page = open_page(key=None)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("warmd open", exact=True)).to_be_visible()
    page.get_by_label("Key").fill("wk_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    page.get_by_label("Key").fill(key)
    page.get_by_label("Key").press("Enter")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_one_that_is_revoked_leads_back_to_the_sign_in(
    open_page: Open, gateway: GatewayProcess, daemon: LocalClient
) -> None:
    keys = Keys(gateway.folder / "keys")
    page = open_page(key=keys.add("passing", ["admin"]))
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    keys.revoke("passing")
    with daemon.session("counter"):
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_one_that_may_only_look_sees_no_buttons(
    open_page: Open, gateway: GatewayProcess, daemon: LocalClient
) -> None:
    keys = Keys(gateway.folder / "keys")
    runner, reader = keys.add("runner"), keys.add("reader", ["read"])
    headers = {"Authorization": f"Bearer {runner}"}
    body = {"app": "counter", "session": "new", "wait": True}
    id = gateway.client.post("/apps/run", json=body, headers=headers).json()["data"]["session_id"]
    page = open_page(key=runner)
    expect(row(page, id).get_by_role("button")).to_have_count(2)
    reading = open_page(key=reader)
    expect(reading.get_by_role("heading", name="This key sees no session")).to_be_visible()
    expect(reading.get_by_role("link", name="Try the counter")).to_have_count(0)
    daemon.sessions.end(id)


# What is seen of sessions, as it happens


def test_from_its_start_to_its_expiry(open_page: Open, daemon: LocalClient) -> None:
    page = open_page()
    expect(page.get_by_role("heading", name="No session is warm yet")).to_be_visible()
    with daemon.session("counter", session_timeout=4, name="mine") as session:
        found = row(page, session.id)
        expect(found).to_contain_text("idle", timeout=SOON_MS)
        expect(found).to_contain_text("mine")
        for _ in range(3):
            session.call("incr")
        expect(found.locator("td.calls")).to_have_text("3", timeout=SOON_MS)
        expect(found.locator("td.left")).to_have_text(re.compile(r"[1-4] s"))
        expect(found).to_have_count(0)
        ended = page.get_by_role("group").filter(has_text="Recently ended")
        ended.get_by_text("Recently ended").click()
        entry = ended.get_by_role("listitem").filter(has_text="mine")
        expect(entry).to_contain_text("expired")
        expect(entry).to_contain_text("nothing called it for 4 s")


def test_a_call_that_runs_is_seen_running(open_page: Open, daemon: LocalClient, tmp_path: Path) -> None:
    with daemon.session("painter") as session:
        page = open_page()
        expect(row(page, session.id)).to_contain_text("idle")
        call = session.submit("slowly", {"gate": str(tmp_path / "gate")})
        expect(row(page, session.id)).to_contain_text("busy", timeout=SOON_MS)
        expect(row(page, session.id)).to_contain_text("slowly")
        page.goto(page.url.partition("#")[0] + f"#/session/{session.id}")
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(page.get_by_text("painting")).to_be_visible()
        (tmp_path / "gate").touch()
        assert call.result(timeout=20).output == "painted"
        expect(page.get_by_role("progressbar")).to_have_count(0)


def test_keepalive_starts_the_idle_time_anew(open_page: Open, daemon: LocalClient) -> None:
    with daemon.session("counter", session_timeout=600) as session:
        page = open_page()
        page.clock.install()
        before = daemon.sessions.get(session.id)["expires_in"]
        row(page, session.id).get_by_role("button", name="Keep alive").click()
        expect(page.get_by_text(re.compile(r"is kept alive"))).to_be_visible()
        assert daemon.sessions.get(session.id)["expires_in"] >= before


def test_an_end_is_asked_for_twice_and_cancels_what_runs(
    open_page: Open, daemon: LocalClient, tmp_path: Path
) -> None:
    with daemon.session("painter") as session:
        page = open_page()
        call = session.submit("slowly", {"gate": str(tmp_path / "never")})
        expect(row(page, session.id)).to_contain_text("busy")
        row(page, session.id).get_by_role("button", name="End").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("This cancels the running call.")
        page.keyboard.press("Escape")
        expect(dialog).not_to_be_visible()
        assert daemon.sessions.get(session.id)["state"] == "busy"
        row(page, session.id).get_by_role("button", name="End").click()
        dialog.get_by_role("button", name="End session").click()
        expect(row(page, session.id)).to_have_count(0)
        with pytest.raises(warmd.CallCancelled):
            call.result(timeout=20)
        assert daemon.sessions.get(session.id)["state"] == "ended"


def test_one_that_died_says_why(open_page: Open, daemon: LocalClient) -> None:
    with daemon.session("painter") as session:
        page = open_page(f"#/session/{session.id}")
        expect(page.get_by_role("main")).to_contain_text("idle")
        session.call("say", {"text": "the last words"})
        expect(page.get_by_role("log")).to_contain_text("the last words")
        with pytest.raises(warmd.WorkerDied):
            session.call("crash")
        expect(page.get_by_role("main")).to_contain_text("exited with code 3")
        expect(page.get_by_role("button", name="Keep alive")).to_have_count(0)
        expect(page.get_by_role("log")).to_contain_text("the last words")
        page.reload()
        expect(page.get_by_role("log")).to_contain_text("the last words")


def test_sorted_and_filtered_by_keyboard(open_page: Open, daemon: LocalClient) -> None:
    with daemon.session("counter", name="first"), daemon.session("painter", name="second") as second:
        second.call("paint")
        page = open_page()
        rows = page.get_by_role("table", name="Sessions").locator("tbody tr")
        expect(rows).to_have_count(2)
        head = page.get_by_role("table", name="Sessions").get_by_role("columnheader", name="Calls")
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        expect(head).to_have_attribute("aria-sort", re.compile("ascending|descending"))
        first = rows.first.inner_text()
        page.keyboard.press("Enter")
        expect(rows.first).not_to_have_text(first)
        page.keyboard.press("/")
        page.keyboard.type("paint")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("second")


# A session's log, live


def test_lines_appear_as_they_are_written(open_page: Open, daemon: LocalClient) -> None:
    with daemon.session("painter") as session:
        session.call("say", {"text": "the first line"})
        page = open_page(f"#/session/{session.id}")
        log = page.get_by_role("log")
        expect(log).to_contain_text("the first line")
        session.call("say", {"text": "the \x1b[31msecond\x1b[0m <b>line</b>"})
        expect(log).to_contain_text("the second <b>line</b>", timeout=SOON_MS)
        session.call("say", {"text": "\n".join(f"line {n}" for n in range(6000))})
        expect(log).to_contain_text("line 5999")
        assert len(log.inner_text().splitlines()) <= 5000 + 5


# The form


def test_a_session_is_started_from_the_form_used_again_and_ended(
    open_page: Open, daemon: LocalClient
) -> None:
    page = open_page("#/try/painter?function=paint")
    page.get_by_label("width").fill("32")
    page.get_by_role("button", name="Run", exact=True).click()
    picture = page.get_by_role("article").first.get_by_role("img")
    expect(picture).to_be_visible()
    assert picture.evaluate(
        "async image => (await image.decode(), [image.naturalWidth, image.naturalHeight])"
    ) == [32, 48]
    (first,) = daemon.sessions.list()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_role("article").first).to_contain_text("done")
    (again,) = daemon.sessions.list()
    assert (again["id"], again["calls"]) == (first["id"], 2)
    page.get_by_role("link", name="Sessions").click()
    row(page, first["id"]).get_by_role("button", name="End").click()
    page.get_by_role("dialog").get_by_role("button", name="End session").click()
    expect(row(page, first["id"])).to_have_count(0)
    assert daemon.sessions.list() == []


def test_parts_appear_one_by_one(open_page: Open, tmp_path: Path) -> None:
    page = open_page("#/try/painter?function=words")
    page.get_by_label("gate", exact=True).fill(str(tmp_path / "gate"))
    page.get_by_role("button", name="Run", exact=True).click()
    card = page.get_by_role("article").first
    for number in range(3):
        (tmp_path / f"gate-{number}").touch()
        expect(card).to_contain_text(f"word{number}")
    expect(card).to_contain_text("word0 word1 word2")
    expect(card).to_contain_text("done")


def test_a_run_goes_on_and_is_found_again_when_somebody_looks_elsewhere(
    open_page: Open, tmp_path: Path
) -> None:
    page = open_page("#/try/painter?function=slowly")
    page.get_by_label("gate", exact=True).fill(str(tmp_path / "gate"))
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("article").first).to_contain_text("running")
    page.get_by_role("link", name="Sessions").click()
    expect(page.get_by_role("table", name="Sessions")).to_contain_text("busy")
    (tmp_path / "gate").touch()
    page.get_by_role("link", name="Try it").click()
    expect(page.get_by_role("article").first).to_contain_text("painted")


def test_no_part_is_lost_however_quick_they_come(open_page: Open, daemon: LocalClient) -> None:
    with daemon.session("counter") as session:
        page = open_page(f"#/try/counter?function=count_up&session={session.id}")
        page.get_by_role("button", name="JSON").click()
        page.get_by_role("textbox", name=re.compile("JSON|Input")).fill('{"n": 150}')
        page.get_by_role("button", name="Run", exact=True).click()
        card = page.get_by_role("article").first
        expect(card).to_contain_text("done")
        shown = card.locator("pre.parts").inner_text().split("\n")
        assert shown == [f'{{"i":{n}}}' for n in range(150)]


def test_a_run_is_cancelled(open_page: Open, tmp_path: Path) -> None:
    page = open_page("#/try/painter?function=slowly")
    page.get_by_label("gate", exact=True).fill(str(tmp_path / "never"))
    page.get_by_role("button", name="Run", exact=True).click()
    card = page.get_by_role("article").first
    expect(card.get_by_role("progressbar")).to_be_visible()
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_contain_text("cancelled")
    expect(card.get_by_role("alert")).to_have_count(0)


def test_a_run_that_failed_shows_its_traceback_when_asked(open_page: Open, tmp_path: Path) -> None:
    page = open_page("#/try/painter?function=size_of")
    page.get_by_label("file", exact=True).fill(str(tmp_path / "nothing"))
    page.get_by_role("button", name="Run", exact=True).click()
    card = page.get_by_role("article").first
    expect(card.get_by_role("alert")).to_contain_text("FileNotFoundError")
    card.get_by_text("Traceback", exact=True).click()
    expect(card.locator("pre").last).to_contain_text("in size_of")
    expect(page.get_by_role("alert")).to_have_count(1)


def test_what_is_wrong_is_said_at_the_form(open_page: Open) -> None:
    page = open_page("#/try/painter?function=paint")
    page.get_by_role("button", name="JSON").click()
    box = page.get_by_role("textbox", name=re.compile("JSON|Input"))
    assert box.evaluate("box => box.spellcheck") is False
    box.fill('{"wide": 3}')
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("wide")
    box.fill('{"width": ')
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    expect(page.get_by_role("alert").first).to_contain_text("JSON")


def test_a_file_is_uploaded(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"x" * 1234)
    page = open_page("#/try/painter?function=size_of")
    page.locator("input[type=file]").first.set_input_files(str(tmp_path / "data.bin"))
    expect(page.get_by_text(re.compile(r"^data\.bin, 1"))).to_be_visible()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("article").first).to_contain_text("1234")


def test_an_app_that_there_is_not(open_page: Open) -> None:
    page = open_page("#/try/nix")
    expect(page.get_by_role("alert")).to_contain_text("nix")


def test_a_page_that_is_hidden_for_long_gives_its_connection_back(
    open_page: Open, gateway: GatewayProcess
) -> None:
    page = open_page()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    before = streams(gateway)
    hide = "hidden => {Object.defineProperty(document, 'hidden', {configurable: true, value: hidden}); "
    hide += "document.dispatchEvent(new Event('visibilitychange'))}"
    page.clock.install()
    page.evaluate(hide, True)
    page.clock.fast_forward(31_000)
    until(lambda: streams(gateway) == before - 1)
    page.evaluate(hide, False)
    until(lambda: streams(gateway) == before)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


# When something is away


def test_the_daemon_is_lost_and_is_there_again(browser: Browser, tmp_path: Path) -> None:
    with (
        warmd.testing.daemon() as daemon,
        GatewayProcess(daemon.address, tmp_path) as gateway,
        browser.new_context() as context,
    ):
        session = daemon.session("counter").__enter__()
        page = context.new_page()
        page.goto(gateway.url)
        expect(row(page, session.id)).to_be_visible()
        daemon.stop()
        expect(page.get_by_role("alert").filter(has_text="daemon")).to_be_visible()
        with successor(places.path_of(daemon.address).parent):
            expect(page.get_by_role("alert")).to_have_count(0)
            expect(page.get_by_role("heading", name="No session is warm yet")).to_be_visible()


def test_what_was_asked_in_vain_is_asked_again(browser: Browser, tmp_path: Path) -> None:
    with (
        warmd.testing.daemon() as daemon,
        GatewayProcess(daemon.address, tmp_path) as gateway,
        browser.new_context() as context,
    ):
        page = context.new_page()
        page.goto(gateway.url)
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        daemon.stop()
        lost = page.get_by_role("alert").filter(has_text="The daemon does not answer")
        expect(lost).to_contain_text("warmd start starts it again. Below is what was known last;")
        page.get_by_role("link", name="Try it").click()
        expect(page.get_by_role("button", name="Ask again").first).to_be_visible()
        with successor(places.path_of(daemon.address).parent):
            expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
            expect(page.get_by_role("button", name="Ask again")).to_have_count(0)


def test_the_gateway_is_lost_and_is_there_again(
    browser: Browser, daemon: LocalClient, tmp_path: Path
) -> None:
    with browser.new_context() as context, daemon.session("counter") as session:
        with GatewayProcess(daemon.address, tmp_path) as gateway:
            page = context.new_page()
            page.goto(gateway.url)
            expect(row(page, session.id)).to_be_visible()
            gateway.process.send_signal(signal.SIGKILL)
            expect(page.get_by_role("alert").filter(has_text="gateway")).to_be_visible()
            expect(row(page, session.id)).to_be_visible()
        with GatewayProcess(daemon.address, tmp_path, port=int(gateway.url.rpartition(":")[2])):
            expect(page.get_by_role("alert")).to_have_count(0)
            expect(page.get_by_text("Live", exact=True)).to_be_visible()
