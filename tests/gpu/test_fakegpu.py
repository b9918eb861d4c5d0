"""The fake driver behaves as GPUs do where tests rely on it."""

from __future__ import annotations

import pytest

from tests.fakegpu import FakeDriver, FakeGpus
from tests.faults.watch import until
from tests.gpu.apps import App, running
from tests.gpu.conftest import FIRST, SECOND


def test_memory_runs_out_and_comes_back(gpus: FakeGpus, app: App) -> None:
    name, text = app.ask("alloc", "more", "x" * 401)
    assert (name, text) == ("OutOfMemory", "CUDA out of memory: 401 bytes asked, 400 of 1000 free")
    assert app.ask("free_bytes") == 400
    assert app.ask("free", "weights") is None
    assert gpus.used(FIRST) == 0
    assert app.ask("read", "weights")[0] == "KeyError"


def test_memory_of_the_dead_comes_back_when_it_is_told_to(gpus: FakeGpus, app: App) -> None:
    gpus.return_slowly(0.2)
    app.end()
    assert gpus.used(FIRST) == 600
    assert FakeDriver(gpus.folder.path).devices()[0].processes == {}
    until(lambda: gpus.used(FIRST) == 0, 2.0)


@pytest.mark.parametrize(("named", "found"), [("1", [SECOND]), ("GPU-b,0", [SECOND, FIRST]), ("", [])])
def test_an_app_sees_what_is_visible_to_it(gpus: FakeGpus, named: str, found: list[str]) -> None:
    with running(app := App(CUDA_VISIBLE_DEVICES=named, **gpus.environment)):
        answer = app.ask("alloc", "weights", "x" * 100)
        assert answer == (None if found else ["CudaError", "invalid device ordinal 0 of 0"])
        assert [gpus.used(device) for device in found] == [100, 0][: len(found)]


FORK = """
import os
from tests.fakegpu import CudaError, FakeCuda
cuda = FakeCuda()
cuda.alloc("weights", b"x")
if os.fork() == 0:
    try:
        cuda.read("weights")
    except CudaError:
        os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_cuda_cannot_be_used_in_a_fork(gpus: FakeGpus) -> None:
    with running(app := App(program=FORK, **gpus.environment)):
        assert app.answer() == 7


def test_what_was_lost_is_an_error_to_the_app(gpus: FakeGpus, app: App) -> None:
    gpus.fault("failed", "checkpoint")
    with pytest.raises(Exception, match="FAILED"):
        FakeDriver(gpus.folder.path).checkpoint(app.pid, 1.0)
    assert app.ask("read", "weights")[0] == "CudaError"
