"""What the kernel says of its kills, on files that look like its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmd.daemon import memory
from warmd.daemon.memory import kernel_kills


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the root of the machine."""

    def below(*parts: str) -> Path:
        return tmp_path.joinpath(*(part.lstrip("/") for part in parts))

    monkeypatch.setattr(memory, "Path", below)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_its_own_cgroup_counts_before_the_machine(files: Path) -> None:
    write(files, "proc/vmstat", "nr_free 1\noom_kill 70\n")
    assert kernel_kills() == 70
    write(files, "proc/self/cgroup", "0::/user/warmd\n")
    assert kernel_kills() == 70, "its cgroup says nothing"
    write(files, "sys/fs/cgroup/user/warmd/memory.events", "oom 4\noom_kill 3\noom_group_kill 9\n")
    assert kernel_kills() == 3


def test_a_cgroup_of_version_1_is_read_too(files: Path) -> None:
    write(files, "proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/box\n0::/\n")
    write(files, "sys/fs/cgroup/memory/box/memory.oom_control", "under_oom 0\noom_kill 2\n")
    assert kernel_kills() == 2


def test_where_nothing_can_be_read_nothing_is_known(files: Path) -> None:
    assert kernel_kills() is None
    write(files, "proc/vmstat", "nr_free 1\n")
    assert kernel_kills() is None
