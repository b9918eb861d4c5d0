from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.daemon import FakeDaemon
from warmd.protocol.work import Finish, Ready


@pytest.fixture
def junk(daemon: FakeDaemon) -> FakeDaemon:
    assert isinstance(daemon.start("Junk"), Ready)
    return daemon


def test_both_streams_are_in_the_log_at_once(junk: FakeDaemon) -> None:
    assert junk.value("print", {"n": 100}) == 100
    lines = junk.log_text().splitlines()
    assert lines == [f"{kind} {i}" for i in range(100) for kind in ("junk", "error")]
    assert junk.page.lines_dropped == 0


def test_the_log_is_private_and_appended_to(daemon: FakeDaemon) -> None:
    daemon.log.write_text("before\n")
    daemon.log.chmod(0o600)
    daemon.start("Junk")
    daemon.value("ok")
    assert daemon.log_text() == "before\nstill here\n"


def test_a_new_log_is_private(junk: FakeDaemon) -> None:
    assert junk.log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "function",
    ["raw", "surrogate", "close_streams", "close_descriptors", "none_streams", "read_stdin", "subprocess"],
)
def test_whatever_the_app_does_to_its_streams(junk: FakeDaemon, function: str) -> None:
    junk.value(function)
    junk.call("print", {"n": 3})
    assert junk.call(function).ordinal == 3
    junk.tell(Finish("ended"))
    assert junk.exit_code() == 0


def test_odd_bytes_arrive(junk: FakeDaemon) -> None:
    junk.value("raw")
    assert junk.log.read_bytes() == b"\x00\xff raw bytes \x80\nno newlinebuffer\n"
    assert junk.value("read_stdin") == ""


def test_a_full_disk_loses_lines_counted_and_never_a_call(daemon: FakeDaemon) -> None:
    assert isinstance(daemon.start("Junk", log_path="/dev/full"), Ready)
    assert daemon.value("print", {"n": 100}) == 100
    assert daemon.page.lines_dropped == 200
    daemon.value("ok")
    assert daemon.page.lines_dropped == 201
    daemon.tell(Finish("ended"))
    assert daemon.exit_code() == 0


def test_a_log_that_cannot_be_opened_loses_lines_counted(daemon: FakeDaemon, tmp_path: Path) -> None:
    assert isinstance(daemon.start("Junk", log_path=str(tmp_path / "no" / "folder.log")), Ready)
    assert daemon.value("print", {"n": 10}) == 10
    assert daemon.page.lines_dropped == 20


def test_closed_descriptors_lose_lines_counted(junk: FakeDaemon) -> None:
    junk.value("close_descriptors")
    assert junk.value("print", {"n": 10}) == 10
    assert junk.page.lines_dropped == 20


def test_a_truncated_log_goes_on(junk: FakeDaemon) -> None:
    junk.value("print", {"n": 10})
    with junk.log.open("r+b") as file:
        file.truncate(0)
    junk.value("ok")
    assert junk.log_text() == "still here\n"
