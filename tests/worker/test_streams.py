from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.daemon import FakeDaemon, started
from warmd.protocol.values import unpack
from warmd.protocol.work import (
    AskCancel,
    Finish,
    Interrupted,
    MoreCredit,
    Ordinal,
    Raised,
    Returned,
)


@pytest.fixture(params=["hangs", "app"])
def streams(request: pytest.FixtureRequest, hangs: FakeDaemon, app: FakeDaemon) -> FakeDaemon:
    return {"hangs": hangs, "app": app}[request.param]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    yield from started("Good", tmp_path_factory)


@pytest.fixture(params=["good.count_up", "app.count_up", "app.sync_count_up"])
def counts(request: pytest.FixtureRequest, good: FakeDaemon, app: FakeDaemon) -> tuple[FakeDaemon, str]:
    name, function = request.param.split(".")
    return {"good": good, "app": app}[name], function


def test_parts_then_the_end(counts: tuple[FakeDaemon, str]) -> None:
    daemon, function = counts
    daemon.invoke(function, 3, window=10)
    assert daemon.parts(3) == [(0, 0), (1, 1), (2, 2)]
    end = daemon.next()
    assert (type(end), end.parts, bytes(end.value)) == (Returned, 3, b"")


def test_the_last_value_without_a_window(counts: tuple[FakeDaemon, str]) -> None:
    daemon, function = counts
    assert daemon.value(function, 5) == 4
    assert daemon.value(function, 0) is None
    assert daemon.call(function, 5).parts == 0


def test_a_plain_function_with_a_window_gives_its_value(daemon: FakeDaemon) -> None:
    daemon.start("Good")
    reply = daemon.call("echo", "x", window=4)
    assert (type(reply), reply.parts, unpack(reply.value)) == (Returned, 0, "x")


def test_it_waits_for_credit(counts: tuple[FakeDaemon, str]) -> None:
    daemon, function = counts
    ordinal = daemon.invoke(function, 6, window=2)
    assert daemon.parts(2) == [(0, 0), (1, 1)]
    assert daemon.is_silent()
    daemon.tell(MoreCredit(ordinal, 1))
    assert daemon.parts(1) == [(2, 2)]
    assert daemon.is_silent()
    daemon.tell(MoreCredit(Ordinal(99), 5))
    assert daemon.is_silent()
    daemon.tell(MoreCredit(ordinal, 2))
    daemon.tell(MoreCredit(ordinal, 1))
    assert daemon.parts(3) == [(3, 3), (4, 4), (5, 5)]
    assert daemon.next().parts == 6


def test_credit_that_comes_together_with_the_call_counts(counts: tuple[FakeDaemon, str]) -> None:
    daemon, function = counts
    ordinal = daemon.invoke(function, 3, window=0)
    daemon.tell(MoreCredit(ordinal, 2))
    daemon.tell(MoreCredit(ordinal, 1))
    assert len(daemon.parts(3)) == 3
    assert isinstance(daemon.next(), Returned)


@pytest.mark.parametrize("how", ["cancel", "abandon"])
def test_a_stalled_stream_is_closed(streams: FakeDaemon, tmp_path: Path, how: str) -> None:
    ordinal = streams.invoke("stream", {"path": str(tmp_path / "note")}, window=3)
    streams.parts(3)
    assert streams.is_silent()
    if how == "cancel":
        streams.cancel(ordinal)
    else:
        streams.tell(AskCancel(ordinal))
    end = streams.next()
    assert (type(end), end.ordinal) == (Interrupted, ordinal)
    assert (tmp_path / "note").read_text() == "closed after 3\n"
    assert streams.value("echo", 5) == 5


def test_a_flowing_stream_is_closed(streams: FakeDaemon, tmp_path: Path) -> None:
    ordinal = streams.invoke("stream", {"path": str(tmp_path / "note")}, window=1_000_000)
    streams.parts(10)
    streams.cancel(ordinal)
    assert isinstance(streams.reply(), Interrupted)
    assert (tmp_path / "note").read_text().startswith("closed after")


def test_a_run_to_the_end_is_closed_at_its_next_value(streams: FakeDaemon, tmp_path: Path) -> None:
    ordinal = streams.invoke("stream", {"path": str(tmp_path / "note")})
    while streams.page.entered != ordinal:
        streams.is_silent(0.001)
    streams.cancel(ordinal)
    assert isinstance(streams.reply(), Interrupted)
    assert (tmp_path / "note").read_text().startswith("closed after")


@pytest.mark.parametrize("app", ["Hangs", "Async"])
def test_a_stream_that_hangs_between_values_is_interrupted(
    daemon: FakeDaemon, tmp_path: Path, app: str
) -> None:
    daemon.start(app)
    ordinal = daemon.invoke("stuck_stream", {"path": str(tmp_path / "note")}, window=9)
    daemon.parts(1)
    daemon.cancel(ordinal)
    assert isinstance(daemon.interrupt_until_reply(ordinal), Interrupted)
    assert (tmp_path / "note").read_text() == "closed\n"


def test_a_generator_that_will_not_close(daemon: FakeDaemon) -> None:
    daemon.start("Hangs")
    ordinal = daemon.invoke("stubborn_stream", window=2)
    daemon.parts(2)
    daemon.cancel(ordinal)
    assert isinstance(daemon.next(), Interrupted)
    assert daemon.value("alive") == 1
    assert "generator ignored GeneratorExit" in daemon.log_text()


@pytest.mark.parametrize("app", ["Hangs", "Async"])
def test_finish_ends_a_stalled_stream(daemon: FakeDaemon, app: str) -> None:
    daemon.start(app)
    daemon.invoke("stream", window=1)
    daemon.parts(1)
    daemon.tell(Finish("ended"))
    assert isinstance(daemon.next(), Interrupted)
    assert daemon.exit_code() == 0


def test_errors_in_a_stream(daemon: FakeDaemon) -> None:
    daemon.start("Raises")
    daemon.invoke("raise_in_stream", window=9)
    assert daemon.parts(1) == [(0, 1)]
    end = daemon.next()
    assert (type(end), end.message) == (Raised, "in the stream")
    assert "in raise_in_stream" in end.traceback


def test_a_part_that_cannot_travel(daemon: FakeDaemon) -> None:
    daemon.start("Raises")
    daemon.invoke("bad_part", window=9)
    assert daemon.parts(1) == [(0, 1)]
    end = daemon.next()
    assert isinstance(end, Raised)
    assert "part 1" in end.message


def test_progress_and_parts_keep_their_order(daemon: FakeDaemon) -> None:
    daemon.start("Good")
    daemon.invoke("count_and_tell", 2, window=9)
    kinds = [type(daemon.next()).__name__ for _ in range(5)]
    assert kinds == ["Progressed", "Yielded", "Progressed", "Yielded", "Returned"]


def test_calls_that_come_during_a_stream_wait_their_turn(streams: FakeDaemon) -> None:
    stream = streams.invoke("stream", window=1)
    streams.parts(1)
    later = [streams.invoke("echo", n) for n in range(3)]
    streams.tell(MoreCredit(stream, 1))
    streams.parts(1)
    assert streams.is_silent()
    streams.cancel(stream)
    assert [streams.reply().ordinal for _ in range(4)] == [stream, *later]


@pytest.mark.parametrize("app", ["Good", "Async"])
def test_nonsense_on_the_link_ends_the_worker(daemon: FakeDaemon, app: str) -> None:
    daemon.start(app)
    assert daemon.link is not None
    daemon.link.sendall(b"\xff" * 12)
    assert daemon.exit_code() == 71


def test_a_death_in_a_stream(daemon: FakeDaemon) -> None:
    daemon.start("Dies")
    daemon.invoke("exit_in_stream", window=9)
    assert daemon.parts(1) == [(0, 1)]
    with pytest.raises((EOFError, ConnectionResetError)):
        daemon.next()
    assert daemon.exit_code() == 8
