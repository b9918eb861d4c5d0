"""What a browser is started with: options and their checks, the program, the sandbox, the folder."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import warmd
from tests.faults.watch import error_of
from warmd.apps.browser import Browser, driver, engine, folder
from warmd.apps.browser.answers import plain
from warmd.apps.browser.options import Options

FAKE = """#!/bin/sh
case " $* " in *" --no-sandbox "*) exec {chromium} "$@";; esac
echo "[1:1:FATAL:zygote_host_impl_linux.cc(127)] No usable sandbox! If this is" >&2
exit 1
"""
CHROMIUM = engine.find_chromium(Options(), "")


@pytest.mark.parametrize(
    ("config", "kind", "text"),
    [
        ({"headles": True}, TypeError, "no option 'headles': did you mean 'headless'?"),
        ({"colour": 1}, TypeError, "no option 'colour': there are headless, executable_path"),
        ("x", TypeError, "a dict of options, not 'x'"),
        ({"headless": 1}, ValueError, "headless: expected true or false, got '1'"),
        ({"viewport": {"width": 1}}, ValueError, 'viewport: expected {"width": 1280'),
        ({"viewport": {"width": 0, "height": 9}}, ValueError, "viewport: expected"),
        ({"viewport": [1, 2]}, ValueError, "viewport: expected"),
        ({"executable_path": "/no/such"}, ValueError, "a program that can be run, got '/no/such'"),
        ({"user_agent": ""}, ValueError, "user_agent: expected a text"),
        ({"args": "--x"}, ValueError, 'args: expected a list of texts such as "--mute-audio"'),
        ({"args": ["x"]}, ValueError, "args: expected a list"),
        ({"proxy": {"username": "x"}}, ValueError, "proxy: expected"),
        ({"dialogs": "ask"}, ValueError, 'dialogs: expected "dismiss" or "accept", got \'ask\''),
    ],
)
def test_wrong_options_are_refused(config, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        Options.of(config)


def test_options_have_defaults():
    assert Options.of(None) == Options.of({}) == Options.of({"locale": None}) == Options()
    assert Options.of({"args": ["--mute-audio"], "proxy": {"server": "x:1"}}).args == ("--mute-audio",)


def test_the_program_is_the_named_one_then_that_on_the_path_then_playwrights(monkeypatch, tmp_path):
    def program(name):
        path = tmp_path / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o700)
        return str(path)

    bundled = program("bundled")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engine.find_chromium(Options(), bundled) == bundled
    chrome = program("google-chrome")
    assert engine.find_chromium(Options(), bundled) == chrome
    chromium = program("chromium")
    assert engine.find_chromium(Options(), bundled) == chromium
    named = program("named")
    monkeypatch.setenv("CHROME_PATH", named)
    assert engine.find_chromium(Options(), bundled) == named
    assert engine.find_chromium(Options(executable_path=bundled), chromium) == bundled
    monkeypatch.setenv("CHROME_PATH", "/no/such")
    with pytest.raises(RuntimeError, match="CHROME_PATH is '/no/such', and that is no program"):
        engine.find_chromium(Options(), bundled)


def test_without_any_the_ways_to_install_one_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="`apt-get install chromium`, or `python -m playwright install"):
        engine.find_chromium(Options(), "/no/such")


def test_a_missing_package_is_named_with_the_command():
    code = "import sys; sys.modules['playwright'] = None\n"
    code += "import asyncio; from warmd.apps.browser import Browser; asyncio.run(Browser().setup())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "RuntimeError: the browser app needs the package playwright: pip install 'warmd[bro" in done.stderr
    assert driver.async_api is not None


@pytest.fixture(scope="module")
def client():
    with warmd.testing.daemon(session_timeout=30) as client:
        client.status()
        yield client


def test_wrong_options_are_told_to_who_opens_the_session(client):
    error = error_of(lambda: client.session("browser", setup={"viewprt": {}}))
    assert error.code == "START_FAILED" and "did you mean 'viewport'?" in str(error)


def test_options_reach_the_browser(client):
    options = {
        "viewport": {"width": 400, "height": 300},
        "user_agent": "warmd-test",
        "locale": "de-DE",
        "timezone": "Asia/Tokyo",
        "dialogs": "accept",
        "args": ["--force-device-scale-factor=1"],
    }
    seen = """[innerWidth, innerHeight, navigator.userAgent, navigator.language,
        Intl.DateTimeFormat().resolvedOptions().timeZone, confirm('?'), prompt('?', 'Ada')]"""
    with client.session("browser-automation", setup=options) as session:
        answer = session.run({"action": "evaluate", "expression": seen}, timeout=30).output
    assert answer["result"] == [400, 300, "warmd-test", "de-DE", "Asia/Tokyo", True, "Ada"]
    assert [dialog["accepted"] for dialog in answer["dialogs"]] == [True, True]


@pytest.mark.parametrize("start", [False, True])
def test_the_browser_starts_with_the_first_action_or_within_setup(client, start):
    with client.session("browser", setup={"start": start}) as session:
        session.call("init")
        assert bool(psutil.Process(session.info().pid).children()) is start


class Plain:
    """The app as an object, in an event loop of the test's own."""

    def __init__(self, **options):
        self.options = options

    def __call__(self, *actions):
        async def all_of_them():
            browser = Browser()
            await browser.setup(self.options)
            try:
                return [await browser.run(action) for action in actions], browser
            finally:
                await browser.unload()

        return asyncio.run(all_of_them())


def fake(tmp_path):
    path = tmp_path / "chromium"
    path.write_text(FAKE.format(chromium=CHROMIUM))
    path.chmod(0o700)
    return str(path)


def test_the_sandbox_is_left_out_where_it_is_impossible(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (answer,), _ = Plain(executable_path=fake(tmp_path))({"action": "start"})
    assert answer["url"] == "about:blank"
    assert "Chromium's sandbox is impossible here" in caplog.text


def test_a_sandbox_that_is_asked_for_is_insisted_on(tmp_path):
    with pytest.raises(RuntimeError, match=r"asked for \(option 'sandbox'\) and impossible: .*No usable"):
        Plain(executable_path=fake(tmp_path), sandbox=True)({"action": "start"})


def test_a_program_that_does_not_start_is_told_with_what_it_said(tmp_path):
    path = tmp_path / "broken"
    path.write_text("#!/bin/sh\necho '[1:1:ERROR:main.cc(1)] Missing X server' >&2\nexit 1\n")
    path.chmod(0o700)
    with pytest.raises(RuntimeError, match=rf"Chromium \({path}\) did not start: .*Missing X server"):
        Plain(executable_path=str(path))({"action": "start"})


def test_a_folder_with_a_long_path_will_do(monkeypatch, tmp_path):
    """Chromium has a socket in there."""
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(folder, "context", SimpleNamespace(folder=str(long)))
    monkeypatch.setenv("TMPDIR", "/tmp")
    (answer,), _ = Plain()({"action": "start", "url": "data:text/html,<title>Here</title>"})
    assert answer["title"] == "Here"
    assert not long.exists() and os.environ["TMPDIR"] == "/tmp"


def test_outside_of_a_worker_the_files_are_temporary():
    (answer,), browser = Plain()({"action": "text"})
    assert answer["text"] == ""
    assert browser._session._folder is None


def test_a_folder_is_cleared_between_two_browsers(monkeypatch, tmp_path):
    (tmp_path / "own").mkdir()
    monkeypatch.setattr(folder, "context", SimpleNamespace(folder=str(tmp_path / "own")))
    own = folder.Folder()
    (own.path / "deep").mkdir()
    (own.path / "file").write_text("x")
    (own.path / "link").symlink_to(tmp_path)
    own.clear()
    assert list(own.path.iterdir()) == [] and Path(tmp_path).exists()
    own.remove()
    own.remove()
    assert not own.path.exists()


def test_answers_hold_plain_values_only():
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    some = {"a": (1, 2.5, None, True, b"x"), 3: moment, "big": 2**64, "low": -(2**63)}
    assert plain({**some, "\ud800": re.compile("x")}) == {
        "a": [1, 2.5, None, True, b"x"],
        "3": "2026-01-02T00:00:00+00:00",
        "big": str(2**64),
        "low": -(2**63),
        "?": "re.compile('x')",
    }
    assert shutil.which(CHROMIUM)
