"""Options are checked before anything is sent, and mean the same everywhere."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests import zoo
from warmd import plan
from warmd.protocol.messages import NOTHING, NewSession, Origin
from warmd.protocol.values import unpack
from warmd.reference import reference

SESSION = "sess_" + "0" * 32


def refused(match: str, **options: Any) -> warmd.Invalid:
    with pytest.raises(warmd.Invalid, match=match) as caught:
        plan.call(plan.options(None, {"app": "counter", **options}))
    assert (caught.value.code, caught.value.ran) == ("INVALID", "no")
    return caught.value


def test_the_first_digits_tell_calls_apart() -> None:
    ids = [plan.call({"app": "counter"}).id for _ in range(50)]
    assert len({id[:6] for id in ids}) == len({id[6:] for id in ids}) == 50


def test_what_is_left_out_is_left_to_the_daemon() -> None:
    call = plan.call({"app": "counter"})
    assert (call.session, call.function, call.timeout_seconds, call.window, call.new) == (
        None, "run", None, None, None,
    )  # fmt: skip
    assert unpack(call.input) is None
    assert call.setup == NOTHING


def test_a_new_session_carries_what_was_asked_of_it() -> None:
    call = plan.call({
        "app": "counter", "session": "new", "session_timeout": "5m", "name": "n", "labels": {"a": "b"},
        "env": {"X": "1"}, "setup": {"start": 1}, "timeout": "90s",
    })  # fmt: skip
    assert call.new == NewSession(300.0, "n", {"a": "b"}, {"X": "1"})
    assert unpack(call.setup) == {"start": 1}
    assert call.timeout_seconds == 90.0


def test_never_is_passed_on() -> None:
    new = plan.call({"app": "counter", "session": "new", "session_timeout": "never"}).new
    assert new is not None
    assert new.idle_seconds == math.inf


@pytest.mark.parametrize(
    "value", [True, False, math.nan, "soon", "", [], 0, -1, "-1", "0s", 0.5, "500ms", -math.inf]
)
def test_a_session_timeout_that_cannot_be_is_refused_with_a_hint(value: object) -> None:
    error = refused("session_timeout", session="new", session_timeout=value)
    assert repr(value) in str(error)


@pytest.mark.parametrize("value", [True, math.nan, "soon", 0, -1, "never", math.inf])
def test_a_call_timeout_that_cannot_be_is_refused(value: object) -> None:
    refused("timeout", timeout=value)


def test_a_request_id_goes_with_the_call() -> None:
    assert plan.call({"app": "counter", "request_id": "req-1"}).request_id == "req-1"
    for id in ("", "two words", "x" * 65, 7):
        refused("request_id: expected 1 to 64 letters, digits", request_id=id)


@pytest.mark.parametrize("option", ["session_timeout", "name", "labels"])
@pytest.mark.parametrize("session", [None, SESSION])
def test_what_opens_a_session_is_refused_elsewhere(option: str, session: str | None) -> None:
    value: object = {"labels": {"a": "b"}, "name": "n", "session_timeout": 60}[option]
    refused(f'{option}.*session="new"', session=session, **{option: value})


@pytest.mark.parametrize(("option", "value"), [("setup", {}), ("env", {"A": "b"})])
def test_setup_and_env_are_for_new_processes(option: str, value: object) -> None:
    refused(option, session=SESSION, **{option: value})
    plan.call({"app": "counter", option: value})


def test_an_unknown_option_is_refused_with_a_suggestion() -> None:
    refused("unknown option 'sesion'; did you mean 'session'", sesion="new")
    refused("unknown option 'session_timout'", session_timout=3)
    refused("unknown option 'zzz'; there are: app, ", zzz=1)


def test_options_given_twice_or_as_no_dict_are_refused() -> None:
    with pytest.raises(warmd.Invalid, match=r"given twice.*app"):
        plan.options({"app": "a"}, {"app": "b"})
    with pytest.raises(warmd.Invalid, match="got str"):
        plan.options("counter", {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"app": None}, "app: missing"),
        ({"app": ""}, "app"),
        ({"app": 3}, "app: expected a name"),
        ({"app": zoo.Good()}, "give the class Good itself"),
        ({"session": ""}, "session"),
        ({"session": 7}, "session"),
        ({"session": warmd.Session(None, SESSION, owned=False)}, f"give its id, {SESSION}"),  # type: ignore[arg-type]
        ({"function": ""}, "function"),
        ({"function": 7}, "function"),
        ({"session": "new", "name": " "}, "name"),
        ({"session": "new", "labels": {"a": 1}}, "labels"),
        ({"session": "new", "labels": ["a"]}, "labels"),
        ({"session": "new", "env": {"A=B": "1"}}, "env"),
        ({"session": "new", "env": {"A": "1\0"}}, "env"),
    ],
)
def test_what_cannot_be_is_named(options: dict[str, Any], says: str) -> None:
    refused(says, **options)


def test_an_input_that_cannot_travel_is_refused_with_the_path_to_it() -> None:
    refused(r'input\["a"\]\[1\]', input={"a": [1, object()]})
    refused("setup", session="new", setup=object())


def test_a_call_to_a_session_needs_no_app() -> None:
    assert plan.call({"session": SESSION}).app is None


def test_a_name_travels_alone_and_code_with_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = Origin(sys.executable, str(tmp_path), os.path.join(tmp_path, sys.path[0]))
    assert reference("counter")[0] == ("counter", None, None)
    assert reference("mine.mod:App")[0] == ("mine.mod:App", here, None)
    assert reference("./apps/x")[0] == (str(tmp_path / "apps/x"), here, None)
    assert reference(Path("apps"))[0] == (str(tmp_path / "apps"), here, None)


def test_a_class_that_a_worker_can_import_travels_by_name() -> None:
    from warmd.apps.counter import Counter

    ref, pickled = reference(Counter)
    assert (ref.name, ref.digest, pickled) == ("warmd.apps.counter:Counter", None, NOTHING)
    assert ref.origin is not None


def test_a_class_that_it_cannot_import_travels_by_value_and_always_the_same() -> None:
    class Local:
        def run(self) -> int:
            return 1

    ref, pickled = reference(Local)
    assert ref.digest is not None
    assert len(ref.digest) == 64
    assert len(pickled)
    assert reference(Local) == (ref, pickled)


def test_a_class_that_cannot_be_pickled_is_refused_with_a_remedy() -> None:
    class Holds:
        lock = threading.Lock()

    with pytest.raises(warmd.Invalid, match=r"cannot be sent by value.*module"):
        reference(Holds)


@pytest.mark.parametrize(
    "given", [{}, {"id": SESSION, "app": "x"}, {"id": SESSION, "app": None, "all": True}, {"id": "new"}]
)
def test_ending_names_one_thing(given: dict[str, Any]) -> None:
    chosen = {"id": None, "app": None, "all": False, "running": "cancel", **given}
    with pytest.raises(warmd.Invalid):
        plan.ending(**chosen)


def test_a_manager_is_made_of_a_client_and_an_app() -> None:
    with pytest.raises(warmd.Invalid, match=r"got str: SessionManager\(client, app\)"):
        warmd.SessionManager("counter", warmd.Client())  # type: ignore[call-overload]


def test_a_handle_is_by_app_or_by_id() -> None:
    with pytest.raises(warmd.Invalid, match="leave out app"):
        plan.opening_options("x", SESSION)
    with pytest.raises(warmd.Invalid, match="leave out setup"):
        plan.opening_options(None, SESSION, setup={})
    with pytest.raises(warmd.Invalid, match="give the app"):
        plan.opening_options(None, None)


def test_importing_warmd_is_cheap_and_everything_promised_is_there() -> None:
    code = (
        "import sys, warmd; heavy = {'zmq', 'msgpack', 'click', 'asyncio', 'psutil'} & set(sys.modules);"
        "assert not heavy, heavy; [getattr(warmd, name) for name in warmd.__all__]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_misspelled_attribute_is_an_error() -> None:
    with pytest.raises(AttributeError, match="Clinet"):
        _ = warmd.Clinet  # type: ignore[attr-defined]


def test_elsewhere_than_on_linux_a_client_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "pidfd_open")
    with pytest.raises(warmd.DaemonUnavailable, match=r"Linux only, this is darwin.*os\.pidfd_open"):
        warmd.Client()


def test_a_run_directory_that_is_a_file_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    monkeypatch.setenv("WARMD_RUN_DIR", str(tmp_path / "file"))
    with warmd.Client() as client, pytest.raises(warmd.DaemonUnavailable) as caught:
        client.status()
    assert "is a file, or a symbolic link: choose another WARMD_RUN_DIR" in str(caught.value)
    monkeypatch.setenv("WARMD_RUN_DIR", str(tmp_path / "file" / "below"))
    with warmd.Client() as client, pytest.raises(warmd.DaemonUnavailable) as caught:
        client.status()
    assert "file: File exists; `warmd doctor` says more" in str(caught.value)
    assert "Errno" not in str(caught.value)


def test_addresses_are_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(warmd.Invalid, match="needs a key"):
        warmd.Client("tcp://host:1")
    with pytest.raises(warmd.Invalid, match="none of warmd's: it has 5 characters"):
        warmd.Client("tcp://host:1", key="guess")
    with pytest.raises(warmd.Invalid, match="needs none"):
        warmd.Client("/x/warmd.sock", key="guess")
    with pytest.raises(warmd.Invalid, match="none is given"):
        warmd.Client(key="guess")
    with pytest.raises(warmd.Invalid, match="never started"):
        warmd.Client("/x/warmd.sock", autostart=True)
    monkeypatch.setenv("WARMD_HOST", "unix:///x/y.sock")
    assert warmd.Client().address == "unix:///x/y.sock"
    monkeypatch.delenv("WARMD_HOST")
    monkeypatch.setenv("WARMD_RUN_DIR", "/x/run")
    assert warmd.Client().address == "unix:///x/run/warmd.sock"
    monkeypatch.setenv("WARMD_RUN_DIR", "/" + "x" * 110)
    with pytest.raises(warmd.Invalid, match="107"):
        warmd.AsyncClient()
