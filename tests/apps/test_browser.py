"""The browser app in a session, with the real Chromium."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import warmd
from tests.faults.watch import until

PAGES = Path(__file__).with_name("browserpages.py")


@pytest.fixture(scope="module")
def site():
    with subprocess.Popen(
        [sys.executable, str(PAGES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.stdin.close()


@pytest.fixture(scope="module")
def browser():
    with warmd.testing.daemon(session_timeout=60) as client, client.session("browser") as session:
        session.run({"action": "start"})
        yield session


@pytest.fixture
def act(browser, site):
    """Performs an action; each test begins with one empty tab, and a bare path is one of our pages."""

    def act(action, **options):
        if options.get("url", "").startswith("/"):
            options["url"] = site + options["url"]
        return browser.run({"action": action, **options}, timeout=30).output

    for tab in act("tabs")["tabs"][1:]:
        act("close", tab=tab["tab"])
    act("goto", url="about:blank")
    act("clear_cookies")
    return act


def refusal(act, action, **options):
    with pytest.raises(warmd.AppError) as caught:
        act(action, **options)
    kind = caught.value.type
    return kind.rpartition(".")[2], caught.value.message.removeprefix(f"{kind}: ")


def test_the_flow_that_it_is_for(act, site):
    started = act("start", url="/")
    assert started["title"] == "Home" and started["status"] == 200
    assert started["browser"].startswith("Chromium ")
    act("click", selector="#login-btn")
    act("type", selector="#username", text="user@example.com")
    assert act("evaluate", expression="document.querySelector('#username').value")["result"] == (
        "user@example.com"
    )
    answer = act("screenshot")
    assert answer["url"] == f"{site}/login"
    shot = answer["screenshot"]
    assert shot.startswith(b"\x89PNG\r\n\x1a\n")
    assert size_of(shot) == (1280, 720)


def size_of(png):
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def test_forms(act, site):
    act("goto", url="/login")
    act("type", selector="#username", text="one")
    act("type", selector="#username", text=" two", delay_seconds=0.01)
    value = {"action": "evaluate", "selector": "#username", "expression": "e => e.value"}
    assert act(**value)["result"] == "one two"
    act("fill", selector="#username", text="three")
    assert act(**value)["result"] == "three"
    act("fill", selector="#username", text="")
    assert act(**value)["result"] == ""
    assert act("select", selector="#role", values="Admin")["selected"] == ["a"]
    assert act("select", selector="#role", values=["u"])["selected"] == ["u"]
    act("press", selector="#username", key="x")
    act("press", key="Enter")
    assert act("wait_for", url="**/welcome*")["url"] == f"{site}/welcome?user=x&role=u"


def test_what_is_read_from_a_page(act):
    act("goto", url="/welcome")
    assert act("text")["text"].split() == ["Hello", "second"]
    assert act("text", selector="p")["text"] == "second"
    assert act("html", selector="p")["html"] == "second"
    assert "<h1>Hello</h1>" in act("html")["html"]
    assert act("evaluate", expression="1 + 1")["result"] == 2
    assert act("evaluate", expression="x => [x.a, null]", argument={"a": 7})["result"] == [7, None]
    assert act("evaluate", expression="async () => (await fetch('/')).status")["result"] == 200
    awkward = act("evaluate", expression="[new Date(0), 10n ** 30n, '\\ud800', /x/, document.body]")["result"]
    assert awkward == ["1970-01-01T00:00:00+00:00", str(10**30), "?", awkward[3], awkward[4]]


def test_pictures_and_pages_on_paper(act):
    act("goto", url="/welcome")
    tall = {"expression": "document.body.style.height = '3000px'"}
    act("evaluate", **tall)
    assert size_of(act("screenshot", full_page=True)["screenshot"])[1] > 3000
    assert size_of(act("screenshot", selector="h1")["screenshot"])[1] < 100
    assert act("screenshot", format="jpeg")["screenshot"].startswith(b"\xff\xd8\xff")
    assert act("pdf", paper="A5", landscape=True)["pdf"].startswith(b"%PDF-")


def test_the_history(act):
    act("goto", url="/")
    act("goto", url="/welcome")
    assert act("back")["title"] == "Home"
    assert act("forward")["title"] == "Welcome"
    assert act("reload")["title"] == "Welcome"


def test_files_and_data_are_addresses_too(act, tmp_path):
    (tmp_path / "page.html").write_text("<title>On disk</title>")
    answer = act("goto", url=f"file://{tmp_path}/page.html")
    assert (answer["title"], answer["status"]) == ("On disk", 200)
    answer = act("goto", url="data:text/html,<title>Inline</title>" + "x" * 5000)
    assert answer["title"] == "Inline" and len(answer["url"]) == 1024


def test_waiting(act):
    act("goto", url="/later")
    act("wait_for", selector="#late", state="attached", load="networkidle")
    act("click", selector="#late")
    act("wait_for", selector="#nowhere", state="detached")
    kind, text = refusal(act, "wait_for", selector="#late", state="hidden", timeout_seconds=0.1)
    assert (kind, text) == ("NotInTime", "wait until hidden: not done within 0.1 s (timeout_seconds)")
    assert refusal(act, "wait_for", url="**/elsewhere", timeout_seconds=0.1)[0] == "NotInTime"


def test_cookies(act, site):
    act("goto", url="/")
    (cookie,) = act("cookies", url=site)["cookies"]
    assert (cookie["name"], cookie["value"]) == ("seen", "yes")
    act("set_cookies", cookies=[{"name": "a", "value": "1"}])
    act("set_cookies", cookies=[{"name": "b", "value": "2", "domain": "example.org", "path": "/"}])
    assert sorted(one["name"] for one in act("cookies")["cookies"]) == ["a", "b", "seen"]
    assert sorted(one["name"] for one in act("cookies", url=site)["cookies"]) == ["a", "seen"]
    act("clear_cookies", name="a")
    assert sorted(one["name"] for one in act("cookies")["cookies"]) == ["b", "seen"]
    act("clear_cookies")
    assert act("cookies")["cookies"] == []


def test_tabs(act):
    first = act("goto", url="/")["tab"]
    second = act("new_tab", url="/welcome")
    assert second["title"] == "Welcome" and "opened_tabs" not in second
    listed = act("tabs")["tabs"]
    assert [(tab["tab"], tab["title"], tab["current"]) for tab in listed] == [
        (first, "Home", False),
        (second["tab"], "Welcome", True),
    ]
    assert act("switch_tab", tab=first)["title"] == "Home"
    assert act("close", tab=second["tab"])["title"] == "Home"
    kind, text = refusal(act, "switch_tab", tab=second["tab"])
    assert (kind, text) == ("ValueError", f"there is no tab {second['tab']}: there are {first}")
    third = act("close")
    assert third["closed"] == first and third["url"] == "about:blank"


def test_a_page_that_opens_another_stays_the_current_one(act):
    here = act("goto", url="/popup")["tab"]
    answer = act("click", selector="#open")
    assert answer["tab"] == here
    opened = answer.get("opened_tabs") or until(lambda: act("tabs").get("opened_tabs"))
    assert "opened_tabs" not in act("tabs"), "it is told once"
    act("switch_tab", tab=opened[0])
    assert act("wait_for", selector="h1")["title"] == "Welcome"
    assert act("close")["tab"] == here


def test_dialogs_hold_up_nobody_and_are_told(act):
    act("goto", url="/dialogs")
    answer = act("click", selector="#ask")
    assert answer["title"] == "false null"
    assert answer["dialogs"] == [
        {"type": "alert", "message": "careful", "accepted": False},
        {"type": "confirm", "message": "sure?", "accepted": False},
        {"type": "prompt", "message": "name?", "accepted": False},
    ]
    act("goto", url="/stay")
    act("click", selector="#b")  # only a page that was used may ask
    left = act("goto", url="/")
    assert left["title"] == "Home" and "dialogs" not in left


def test_downloads(act, site):
    act("goto", url="/files")
    answer = act("click", selector="#get")
    told = answer.get("downloads") or until(lambda: act("tabs").get("downloads"))
    assert told == ["report.csv"]
    got = act("download")
    assert (got["filename"], got["source"]) == ("report.csv", f"{site}/download")
    assert got["content"] == b"a,b\n1,2\n"
    answer = act("goto", url="/download")
    assert (answer["url"], answer["status"], answer["downloads"]) == (f"{site}/files", None, ["report.csv"])
    assert refusal(act, "download", number=7, timeout_seconds=0.2)[0] == "NotInTime"


@pytest.mark.parametrize(
    ("action", "options", "text"),
    [
        ("click", {"selector": ""}, "selector: expected a text, got an empty one"),
        ("click", {"selector": 3}, "selector: expected a text, got '3'"),
        ("click", {"selector": "a", "button": "up"}, "button is 'up', allowed are left, right, middle"),
        ("click", {"selector": "a", "clicks": 11}, "clicks is 11, allowed are 1 to 10"),
        ("click", {"selector": "a", "timeout_seconds": 0}, "timeout_seconds is 0, allowed is more than 0"),
        ("click", {"selector": "a", "timeout_seconds": True}, "timeout_seconds: expected a number"),
        ("type", {"selector": "a", "text": None}, "text: expected a text"),
        ("type", {"selector": "a", "text": "x", "delay_seconds": 2}, "delay_seconds is 2"),
        ("select", {"selector": "a", "values": 3}, "values: expected a text or a list of texts"),
        ("wait_for", {}, "give a selector, a url or a load"),
        ("wait_for", {"selector": "a", "state": "there"}, "state is 'there', allowed are visible"),
        ("goto", {"url": "example.com"}, "'example.com' has no scheme; did you mean 'https://example.com'?"),
        ("goto", {"url": "about:blank", "wait_until": "x"}, "wait_until is 'x', allowed are load"),
        ("screenshot", {"format": "gif"}, "format is 'gif', allowed are png, jpeg"),
        ("pdf", {"paper": "A9"}, "paper is 'A9', allowed are A3"),
        ("set_cookies", {"cookies": {}}, "cookies: expected a list of dicts"),
        ("download", {"number": "x"}, "number: expected an integer"),
        ("clik", {}, "unknown action 'clik': did you mean 'click'?"),
        ("click", {"selectr": "a"}, "the action 'click' has no option 'selectr': did you mean 'selector'?"),
        ("evaluate", {"expression": "nope()"}, "evaluate: ReferenceError: nope is not defined"),
        ("click", {"selector": "##"}, "click: Unexpected token"),
        ("press", {"key": "Nokey"}, 'press: Unknown key: "Nokey"'),
        ("goto", {"url": "http://127.0.0.1:9999/"}, "ERR_CONNECTION_REFUSED, nobody listens there"),
        ("goto", {"url": "file:///no/such"}, "ERR_FILE_NOT_FOUND, there is no such file"),
    ],
)
def test_refusals(act, action, options, text):
    assert text in refusal(act, action, **options)[1]
    assert act("start")["url"]


def test_an_element_that_cannot_be_used_is_told_within_its_own_time(act):
    act("goto", url="/login")
    began = time.monotonic()
    assert refusal(act, "click", selector="#nope", timeout_seconds=0.3) == (
        "NotInTime",
        "click: no element matches '#nope' within 0.3 s (timeout_seconds)",
    )
    assert 0.3 <= time.monotonic() - began < 1.5
    assert "'#off' is there, but after 0.3 s: element is not enabled" in (
        refusal(act, "click", selector="#off", timeout_seconds=0.3)[1]
    )
    act("evaluate", selector="#over", expression="e => e.style.display = 'block'")
    assert "intercepts pointer events" in refusal(act, "click", selector="#under", timeout_seconds=0.3)[1]
    assert act("text", selector="#send")["text"] == "Send"


def test_after_a_page_that_cannot_be_loaded_the_next_one_is(act):
    """Chromium's own page about a failure comes after it, and once got in the way of half of them."""
    for _ in range(8):
        kind, text = refusal(act, "goto", url="http://127.0.0.1:1/")
        assert kind == "NavigationFailed" and "127.0.0.1:1" in text
        assert act("goto", url="/welcome")["title"] == "Welcome"


def test_a_page_that_never_loads_is_given_up(act):
    kind, text = refusal(act, "goto", url="/never", timeout_seconds=0.4)
    assert kind == "NotInTime" and "/never: not done within 0.4 s" in text
    assert act("goto", url="/")["title"] == "Home"


def test_a_cancelled_click_is_never_made(act, browser):
    act("goto", url="/later")
    call = browser.submit("run", {"action": "click", "selector": "#late"})
    until(lambda: call.status().state == "running")
    time.sleep(0.2)  # it is to wait for its element by then
    call.cancel()
    with pytest.raises(warmd.CallCancelled):
        call.result(timeout=5)
    act("wait_for", selector="#late")
    time.sleep(0.3)  # what goes on in the driver would click by now
    assert act("evaluate", expression="clicks")["result"] == 0
    act("click", selector="#late")
    assert act("evaluate", expression="clicks")["result"] == 1


@pytest.mark.parametrize(
    "waits",
    [
        {"action": "wait_for", "selector": "#nope", "timeout_seconds": 60},
        {"action": "goto", "url": "/never", "timeout_seconds": 60},
        {"action": "evaluate", "expression": "new Promise(() => 0)", "timeout_seconds": 60},
        {"action": "evaluate", "expression": "() => { while (1); }", "timeout_seconds": 60},
        {"action": "download", "number": 99, "timeout_seconds": 60},
    ],
    ids=["an element", "a page", "a promise", "a loop", "a download"],
)
def test_a_call_that_is_late_leaves_the_browser_usable(act, browser, site, waits):
    act("goto", url="/login")
    if waits.get("url"):
        waits = {**waits, "url": site + waits["url"]}
    began = time.monotonic()
    with pytest.raises(warmd.CallTimeout):
        browser.run(waits, timeout=0.7)
    assert act("text", selector="#send")["text"] == "Send"
    assert time.monotonic() - began < 5


def test_a_page_whose_own_script_never_ends_can_be_left(act):
    act("goto", url="/busy")
    assert refusal(act, "click", selector="#spin", timeout_seconds=0.3)[0] == "NotInTime"
    assert refusal(act, "text", timeout_seconds=0.3)[0] == "NotInTime", "it goes on"
    assert act("tabs")["tabs"][0]["title"] is None
    assert act("goto", url="/quiet", timeout_seconds=5)["title"] == "Quiet"


def test_a_page_that_is_busy_for_long_is_not_broken_off(act):
    """Two seconds of its own script, and impatient questions meanwhile."""
    act("goto", url="/busy")
    act("click", selector="#work")
    with pytest.raises(warmd.AppError, match="the page is busy with a script of its own"):
        until(lambda: not act("text", timeout_seconds=0.2))
    assert act("text", selector="#done", timeout_seconds=15)["text"] == "done"


def test_a_crashed_page_is_told_and_replaced(act, browser):
    tab = act("goto", url="/")["tab"]
    call = browser.submit("run", {"action": "wait_for", "selector": "#nope"})
    until(lambda: call.status().state == "running")
    for process in psutil.Process(browser.info().pid).children(recursive=True):
        if "--type=renderer" in process.cmdline():
            process.kill()
    with pytest.raises(warmd.AppError) as caught:
        call.result(timeout=10)
    assert caught.value.type.endswith("PageCrashed")
    assert f"tab {tab} has crashed: 'goto' opens another" in caught.value.message
    assert refusal(act, "text")[0] == "PageCrashed"
    answer = act("goto", url="/login")
    assert (answer["tab"], answer["title"]) == (tab, "Log in")
    assert "opened_tabs" not in answer


def test_functions_can_be_called_by_name_as_well(browser):
    assert browser.call("goto", {"url": "about:blank"}).output["url"] == "about:blank"
    assert "click" in browser.call("init").output["actions"]
