"""What would silently be lost, or silently go on as old code, if nobody took care of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.worker.daemon import FakeDaemon
from tests.worker.project import Project
from warmd.daemon.worker import reload


@pytest.fixture
def project(daemon: FakeDaemon, tmp_path: Path) -> Project:
    (tmp_path / "files").mkdir()
    return Project(tmp_path / "files", daemon)


def started(project: Project, text: str) -> None:
    """A session of an app whose file is as old as most are."""
    project.write("app.py", text)
    old = time.time() - 100
    for name in project.texts:
        os.utime(project.folder / name, (old, old))
    time.sleep(0.05)  # the time of the last change cannot be set
    project.start()


def value(project: Project, function: str = "run", given: Any = None) -> Any:
    return project.daemon.value(function, given)


def test_a_typed_input_has_its_new_fields(project: Project) -> None:
    started(
        project,
        """
        from dataclasses import dataclass
        @dataclass
        class Given:
            x: int
        class App:
            def run(self, given: Given):
                return vars(given)
        """,
    )
    assert value(project, given={"x": 1}) == {"x": 1}
    project.edit("x: int", "x: int\n    y: int = 5")
    assert value(project, given={"x": 1, "y": 2}) == {"x": 1, "y": 2}


def test_a_module_that_came_late_is_not_executed_twice(project: Project) -> None:
    started(project, "class App:\n    def run(self):\n        return 0\n")
    assert value(project) == 0
    time.sleep(0.05)
    project.write("late.py", "calls = []\ndef add():\n    calls.append(1)\n    return len(calls)\n")
    time.sleep(0.05)
    project.edit("return 0", "import late; return late.add()")
    assert [value(project) for _ in range(3)] == [1, 2, 3]


def test_a_failure_is_tried_again_when_the_file_is_saved_once_more(project: Project) -> None:
    started(project, "class App:\n    def run(self):\n        return 1\n")
    project.edit("class App", "import comes_late\nclass App")
    assert "ModuleNotFoundError" in project.refusal("run")
    (project.folder / "comes_late.py").write_text("")
    assert "ModuleNotFoundError" in project.refusal("run")
    os.utime(project.folder / "app.py")
    assert value(project) == 1


def test_a_file_that_is_just_being_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that is cut off would take values of the module away, and the whole one bring new ones."""
    path = tmp_path / "app.py"
    path.write_text("whole = 1")
    watched = reload._Watched("app", str(path), None, b"whole = 1", b"whole = 1")
    path.write_text("who")
    written = iter(["whole", "whole = 2"])
    monkeypatch.setattr(reload.time, "sleep", lambda _: path.write_text(next(written, "whole = 2")))
    assert reload._read_settled([watched])
    assert watched.latest == b"whole = 2"
