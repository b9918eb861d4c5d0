"""What an app's `prepare` has loaded, all forks of its template have, and share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.daemon import TOKEN, FakeDaemon
from tests.worker.project import Project
from tests.worker.templated import Template
from warmd.protocol.work import Fork, Prepared, Ready, StartFailed, WorkerId

COUNTS = "worker.zoo_prepare:Counts"
MIB = 2**20
APP = """
class App:
    @classmethod
    def prepare(cls):
        cls.weight = 1

    def predict(self):
        return [self.weight, "old"]
"""


@pytest.fixture
def template(tmp_path: Path) -> Iterator[Template]:
    fake = Template(tmp_path)
    yield fake
    fake.close()


def test_it_runs_once_for_all_forks(template: Template) -> None:
    said = template.prepare(COUNTS)
    assert isinstance(said, Prepared) and said.unforkable == ""
    assert "prepare is printed" in template.log_text()
    for _ in range(2):
        fork = template.fork()
        fork.begin(COUNTS)
        ready = fork.next()
        assert isinstance(ready, Ready) and ready.functions == ["run"]
        assert fork.value("run") == [template.pid]


def test_it_has_run_in_a_template_that_becomes_a_worker(template: Template) -> None:
    template.prepare(COUNTS)
    template.tell(Fork(WorkerId(1), TOKEN, "sess_" + "0" * 32, whole=True))
    assert template.link is not None
    template.link.close()
    template.admit()
    template.begin(COUNTS)
    assert isinstance(template.next(), Ready)
    assert template.value("run") == [template.pid]


def test_where_nothing_is_forked_it_runs_before_the_instance(daemon: FakeDaemon) -> None:
    assert isinstance(daemon.start(COUNTS), Ready)
    assert daemon.value("run") == [daemon.pid]


@pytest.mark.parametrize(
    ("kind", "phase", "type", "text"),
    [
        ("Raises", "prepare", "ValueError", "no weights here"),
        ("NoClassmethod", "imports", "TypeError", "prepare of app zoo is no classmethod"),
        ("Demands", "imports", "TypeError", "prepare of app zoo needs arguments, and there are none"),
        ("Async", "imports", "TypeError", "prepare of app zoo is async"),
    ],
)
def test_what_raises_fails_the_start(
    template: Template, kind: str, phase: str, type: str, text: str
) -> None:
    failed = template.prepare(f"worker.zoo_prepare:{kind}")
    assert isinstance(failed, StartFailed)
    assert (failed.phase, failed.type) == (phase, type) and text in failed.message


def test_so_it_does_where_nothing_is_forked(daemon: FakeDaemon) -> None:
    failed = daemon.start("worker.zoo_prepare:Raises")
    assert isinstance(failed, StartFailed)
    assert (failed.phase, failed.message) == ("prepare", "no weights here")
    assert "in prepare" in failed.traceback


def test_one_that_uses_a_gpu_cannot_be_forked(template: Template) -> None:
    said = template.prepare("worker.zoo_prepare:TakesGpu")
    assert isinstance(said, Prepared)
    assert said.unforkable.startswith("importing it, or its prepare(), initialised CUDA in torch")


def test_bars_do_not_make_it_unfit_to_be_forked(template: Template) -> None:
    said = template.prepare("worker.zoo_prepare:ShowsBar")
    assert isinstance(said, Prepared) and said.unforkable == ""
    fork = template.fork()
    fork.begin("worker.zoo_prepare:ShowsBar")
    assert isinstance(fork.next(), Ready)
    assert fork.value("run") == [90, 10, ["MainThread", "tqdm_monitor"]]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch")
def test_forks_share_weights_and_compute_with_threads(template: Template) -> None:
    said = template.prepare("worker.zoo_weights:Weights")
    assert isinstance(said, Prepared), said
    assert said.unforkable == "" and said.memory_bytes > 200 * MIB
    cores = len(os.sched_getaffinity(0))
    for _ in range(2):
        fork = template.fork()
        fork.begin("worker.zoo_weights:Weights")
        assert isinstance(fork.next(), Ready)
        facts = fork.value("run")
        assert facts["sum"] == 2.0 * 1024 * 8192 * 256
        assert facts["threads_in_prepare"] == 1
        assert facts["threads"] >= min(2, cores) and fork.value("tasks") >= min(2, cores)
    for fork in template.forks:
        memory = fork.value("memory")
        assert memory["Shared_Dirty"] > 200 * MIB and memory["Private_Dirty"] < 50 * MIB
        assert memory["Pss"] < memory["Rss"] / 2


def test_one_that_was_edited_needs_a_new_session(daemon: FakeDaemon, tmp_path: Path) -> None:
    project = Project(tmp_path, daemon)
    project.write("app.py", APP)
    project.start()
    assert daemon.value("predict") == [1, "old"]
    project.edit('"old"', '"new"')
    assert daemon.value("predict") == [1, "new"]
    project.edit("cls.weight = 1", "cls.weight = 2")
    assert "App.prepare has changed" in project.refusal()
    project.edit("cls.weight = 2", "cls.weight = 1")
    assert daemon.value("predict") == [1, "new"]


def test_hooks_that_an_edit_has_left_incomplete_are_refused(daemon: FakeDaemon, tmp_path: Path) -> None:
    project = Project(tmp_path, daemon)
    project.write("app.py", APP)
    project.start()
    project.edit("def predict(self)", "def park(self): ...\n    def predict(self)")
    assert "has park() but no unpark()" in project.refusal()
