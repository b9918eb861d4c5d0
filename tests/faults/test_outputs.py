"""What apps print, return and raise: whatever it is, the session lives and the answer fits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import warmd
from tests.faults.watch import error_of, open_all, together, undisturbed, until, zoo
from warmd.owndaemon import LocalClient

pytestmark = pytest.mark.alone

MAX_BYTES = 2**20
FLOOD_MEGABYTES = 100
MAX_TEXT_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def small() -> Iterator[LocalClient]:
    """A daemon with small limits."""
    with warmd.testing.daemon(max_message_bytes=MAX_BYTES, log_max_bytes=MAX_BYTES, end_grace=1) as client:
        open_all(client)
        yield client


JUNK = ("print", "raw", "surrogate", "close_streams", "close_descriptors", "none_streams", "subprocess")


def test_junk_on_the_streams_and_closing_them_does_no_harm(client: LocalClient) -> None:
    def one(function: str) -> None:
        with client.session(zoo("Junk")) as session:
            session.call(function)
            if function != "close_streams":  # then `print` is an error of the app's own
                assert session.call("ok").output == "ok"
            if function != "close_descriptors":
                assert session.call("read_stdin").output == ""
            assert session.call("quiet").output == "quiet"

    together(one, JUNK)


def test_output_of_children_is_in_the_log_as_it_came(client: LocalClient) -> None:
    with client.session(zoo("Junk")) as session:
        session.call("subprocess")
        session.call("raw")
        log = b"".join(client.logs(session.id))
        assert b"from a child\n" in log and b"\x00\xff raw bytes \x80\n" in log


@pytest.mark.parametrize("function", ["flood", "flood_by_child"])
def test_a_flood_of_output_is_cut_and_disturbs_nobody(small: LocalClient, function: str) -> None:
    """100 MB while the log may have one."""
    with small.session(zoo("Floods")) as session:
        assert session.call("alive").output == 1
        with undisturbed(small.address):
            session.call(function, {"megabytes": FLOOD_MEGABYTES})
        assert session.call("alive").output == 2
        log = small.run_dir / "logs" / f"{session.id}.log"
        until(lambda: log.stat().st_size <= 1.1 * MAX_BYTES)
        if function == "flood":
            assert b"the last line\n" in b"".join(small.logs(session.id))


UNSENDABLE = ("unpackable", "lambda_", "big_int", "deep", "cyclic", "coroutine", "bad_progress")


def test_what_cannot_be_sent_is_an_app_error(client: LocalClient) -> None:
    with client.session(zoo("Raises")) as session:
        for n, function in enumerate(UNSENDABLE, 1):
            error = error_of(lambda function=function: session.call(function))  # type: ignore[misc]
            assert (error.code, error.ran) == ("APP_ERROR", "yes"), function
            assert session.call("alive").output == n
        stream = session.stream("bad_part")
        assert next(stream) == 1
        assert error_of(lambda: list(stream)).code == "APP_ERROR"


def test_a_result_that_is_too_large_is_an_app_error_that_names_the_limit(small: LocalClient) -> None:
    with small.session(zoo("Raises")) as session:
        for count in (MAX_BYTES + 1, 40 * MAX_BYTES):
            error = error_of(lambda count=count: session.call("large", count))  # type: ignore[misc]
            assert (error.code, error.ran) == ("APP_ERROR", "yes")
            assert "max_message_bytes" in str(error) and str(MAX_BYTES) in str(error)
        assert len(session.call("large", MAX_BYTES - 100).output) == MAX_BYTES - 100
        assert session.call("alive").output == 1


EVIL = ("str", "exit", "not_a_str", "subclass", "notes", "cause", "type")


def check_text(error: warmd.WarmdError) -> None:
    assert (error.code, error.ran) == ("APP_ERROR", "yes")
    assert isinstance(error, warmd.AppError) and error.type and error.traceback
    assert all(len(text.encode()) <= MAX_TEXT_BYTES for text in (str(error), error.type, error.traceback))


@pytest.mark.parametrize("kind", EVIL)
def test_an_evil_exception_is_told_all_the_same(client: LocalClient, kind: str) -> None:
    with client.session(zoo("Raises")) as session:
        error = error_of(lambda: session.call("evil", kind))
        check_text(error)
        assert kind == "type" or error.details["type"].startswith("zoo.")
        assert session.call("alive").output == 1


@pytest.mark.parametrize("function", ["huge_text", "surrogates", "group", "recurse", "chained"])
def test_no_text_of_an_error_is_larger_than_64_kib(client: LocalClient, function: str) -> None:
    with client.session(zoo("Raises")) as session:
        check_text(error_of(lambda: session.call(function)))
        assert session.call("alive").output == 1


@pytest.mark.parametrize("function", ["group", "cycle", "evil_repr", "evil_argument"])
def test_groups_cycles_and_evil_values_are_told(client: LocalClient, function: str) -> None:
    with client.session(zoo("Floods")) as session:
        check_text(error_of(lambda: session.call(function)))
        assert session.call("alive").output == 1
