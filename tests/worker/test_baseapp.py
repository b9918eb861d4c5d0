"""Apps written for inference.sh in a real worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.daemon import FakeDaemon
from warmd.daemon.worker.baseapp import metadata
from warmd.daemon.worker.load import App
from warmd.protocol.files import File
from warmd.protocol.values import unpack
from warmd.protocol.work import Declined, Finish, Interrupted, Raised, Ready, Returned, StartFailed

TARGET = "zoo_inference:"


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(tmp_path_factory.mktemp("worker"))
    try:
        ready = fake.start(f"{TARGET}Typed", setup={"model": "large"})
        assert isinstance(ready, Ready), ready
        assert ready.functions == ["blocking", "live", "picture", "run", "size", "steps", "told"]
        yield fake
    finally:
        fake.close()


def declined(daemon: FakeDaemon, function: str, value: Any) -> str:
    reply = daemon.call(function, value)
    assert isinstance(reply, Declined), reply
    return reply.message


def test_an_input_becomes_the_model_and_a_model_a_dict(typed: FakeDaemon) -> None:
    found = typed.value("run", {"prompt": "hi"})
    assert found == {"output_meta": None, "text": "large: hi x4", "image": None}


def test_a_typed_setup_gets_its_model(typed: FakeDaemon) -> None:
    assert "INFO setup of large" in typed.log_text(), "the logger is there before setup"


def test_an_input_that_does_not_fit_is_told_by_its_paths(typed: FakeDaemon) -> None:
    told = declined(typed, "run", {"promt": "hi", "steps": "x"})
    assert told == (
        "run(): input.prompt: Field required, but 'promt' was given; input.steps: Input should be a valid "
        "integer, unable to parse string as an integer, got 'x'"
    )


def test_the_metadata_is_inferences_own(typed: FakeDaemon) -> None:
    found = typed.value("told", {"prompt": "there"})
    assert len(found.pop("task_id")) == 32
    del found["gpu_ids"]  # as the machine has them
    known = {name: value for name, value in found.items() if value is not None}
    session = "sess_" + "0" * 32
    assert known == {"app_id": "zoo", "worker_id": session, "session_id": session, "is": True}
    assert "INFO told there" in typed.log_text()


def test_a_file_goes_out_as_the_file_that_it_is(typed: FakeDaemon, tmp_path: Path) -> None:
    path = str(tmp_path / "plot.png")
    found = typed.value("picture", {"prompt": path})
    assert found["image"] == File(path, "image/png", "plot.png")
    assert typed.value("size", {"image": path}) == len("a picture")
    assert typed.value("size", {"image": found["image"]}) == len("a picture"), "it may come back in"


def test_a_generators_last_value_is_its_result(typed: FakeDaemon) -> None:
    assert typed.value("steps", {"prompt": "n", "steps": 3})["text"] == "n 2"
    typed.invoke("steps", {"prompt": "n", "steps": 2}, window=5)
    assert [part["text"] for _, part in typed.parts(2)] == ["n 0", "n 1"]
    assert isinstance(typed.next(), Returned)


@pytest.mark.parametrize("window", [None, 5])
def test_a_generator_that_yields_nothing_has_failed(typed: FakeDaemon, window: int | None) -> None:
    reply = typed.call("steps", {"prompt": "n", "steps": 0}, window)
    assert isinstance(reply, Raised)
    assert (reply.type, "steps() has yielded nothing" in reply.message) == ("warmd.NoOutput", True)


def test_a_stream_function_is_refused(typed: FakeDaemon) -> None:
    assert "live() takes a socket ('socket'): stream functions" in declined(typed, "live", {"prompt": "x"})


def test_a_validator_can_be_interrupted(typed: FakeDaemon) -> None:
    ordinal = typed.invoke("run", {"prompt": "hang"})
    assert isinstance(typed.interrupt_until_reply(ordinal), Interrupted)


def test_a_validator_that_fails_is_told_with_its_error(typed: FakeDaemon) -> None:
    told = declined(typed, "run", {"prompt": "broken"})
    assert told == "run(): its input cannot be used: RuntimeError: the validator is broken"
    assert "zoo_inference.py" in typed.log_text()


def test_blocking_code_sees_that_it_is_to_stop(typed: FakeDaemon) -> None:
    ordinal = typed.entered("blocking", {"prompt": "x"})
    typed.page.request_cancel(ordinal)
    reply = typed.reply()
    assert isinstance(reply, Returned), reply
    assert unpack(reply.value) == "stopped"


def test_the_old_form(daemon: FakeDaemon) -> None:
    ready = daemon.start(f"{TARGET}Plain")
    assert isinstance(ready, Ready), ready
    assert (ready.functions, ready.on_cancel) == (["run", "wait"], True)
    found = daemon.value("run", {"a": 1})
    setup_task, task = found.pop("task")
    assert (setup_task, len(task)) == (None, 32)
    assert found == {"input": {"a": 1}, "app": "zoo", "context": "a browser's", "cancels": 0}
    ordinal = daemon.invoke("wait", {})
    daemon.cancel(ordinal, with_signal=True)
    assert isinstance(daemon.interrupt_until_reply(ordinal), Interrupted)
    assert daemon.value("run", {})["cancels"] == 1
    daemon.tell(Finish("ended"))
    assert daemon.exit_code() == 0
    assert "unloaded" in daemon.log_text()


def test_metadata_is_no_setup_value(daemon: FakeDaemon) -> None:
    failed = daemon.start(f"{TARGET}Plain", setup={"a": 1})
    assert isinstance(failed, StartFailed)
    assert failed.message == "setup() takes no input, got a dict with the keys ['a']"


@pytest.mark.parametrize(("options", "device"), [({}, "cpu"), ({"setup": {"device": "gpu"}}, "gpu")])
def test_an_untyped_config_is_a_dict(daemon: FakeDaemon, options: Any, device: str) -> None:
    assert isinstance(daemon.start(f"{TARGET}Config", **options), Ready)
    assert daemon.value("where", {}) == device


def test_a_setup_value_that_does_not_fit_is_a_failed_start(daemon: FakeDaemon) -> None:
    failed = daemon.start(f"{TARGET}Strict", setup={"modle": "x"})
    assert isinstance(failed, StartFailed)
    assert (failed.phase, failed.type) == ("setup", "TypeError")
    assert failed.message == "setup(): setup.model: Field required, but 'modle' was given"
    assert "daemon/worker" not in failed.traceback


def test_what_is_inherited_is_no_function_of_the_app() -> None:
    from tests.zoo_inference import Bare

    assert App(Bare, "bare").functions == []


def test_the_default_function_is_what_run_means(daemon: FakeDaemon) -> None:
    ready = daemon.start(f"{TARGET}Typed", default_function="steps")
    assert isinstance(ready, Ready)
    assert ready.functions == ["blocking", "live", "picture", "run", "size", "steps", "told"]
    assert daemon.value("run", {"prompt": "n", "steps": 1})["text"] == "n 0"
    assert "steps(): input" in declined(daemon, "run", {})


def test_an_app_without_run_has_it_by_its_default_function(daemon: FakeDaemon) -> None:
    ready = daemon.start(f"{TARGET}Config", default_function="where")
    assert isinstance(ready, Ready)
    assert ready.functions == ["run", "where"]
    assert daemon.value("run") == "cpu"


def test_a_default_function_that_is_not_there_fails_the_import(daemon: FakeDaemon) -> None:
    failed = daemon.start(f"{TARGET}Config", default_function="were")
    assert isinstance(failed, StartFailed)
    assert (failed.phase, failed.type) == ("imports", "ImportError")
    assert failed.message == (
        "app zoo has no function 'were', which is to be its default_function: did you mean 'where'?"
    )


def test_the_gpus_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "0,GPU-1")
    assert metadata().gpu_ids == ["0", "GPU-1"]
    monkeypatch.delitem(os.environ, "CUDA_VISIBLE_DEVICES")
    assert metadata().gpu_ids is None
