"""Finding, using and leaving cgroups, on folders that look like them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from warmd.daemon import cgroup
from warmd.daemon.cgroup import Cgroups, delegated, out_of_memory
from warmd.daemon.core.events import OutOfMemory
from warmd.protocol.work import WorkerId

FILES = {
    "cgroup.procs": "",
    "cgroup.controllers": "cpu memory pids\n",
    "cgroup.kill": "",
    "memory.max": "max",
}
MOUNTS = """\
20 1 0:5 / /proc rw - proc proc rw
31 1 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 none rw
"""
ONE = WorkerId(1)
LIMIT = 200_000_000


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """What systemd gives to a service, as files."""
    path = tmp_path / "sys/fs/cgroup/user.slice/warmd.service"
    path.mkdir(parents=True)
    for name, text in FILES.items():
        (path / name).write_text(text)
    (path / "cgroup.subtree_control").write_text("")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("1:cpu:/x\n0::/user.slice/warmd.service\n")
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTS)
    return path


@pytest.fixture
def marked(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        os, "getxattr", lambda path, name: b"1" if (path, name) == (base, "user.delegate") else b""
    )
    return base


def test_a_cgroup_that_systemd_has_delegated_is_found(marked: Path, tmp_path: Path) -> None:
    assert delegated(tmp_path) == marked


def test_one_that_merely_can_be_written_is_left_alone(base: Path, tmp_path: Path) -> None:
    assert os.access(base, os.W_OK)
    assert delegated(tmp_path) is None


def test_in_a_namespace_names_are_relative_to_what_is_mounted(marked: Path, tmp_path: Path) -> None:
    mounts = tmp_path / "proc/self/mountinfo"
    mounts.write_text("31 1 0:27 /user.slice /sys/fs/cgroup/user.slice rw - cgroup2 none rw\n")
    assert delegated(tmp_path) == marked
    mounts.write_text("31 1 0:27 /elsewhere /sys/fs/cgroup rw - cgroup2 none rw\n")
    assert delegated(tmp_path) is None


@pytest.mark.parametrize("missing", ["proc/self/cgroup", "proc/self/mountinfo"])
def test_without_proc_or_version_2_there_is_none(marked: Path, tmp_path: Path, missing: str) -> None:
    assert marked.exists()
    (tmp_path / missing).write_text("4:memory:/x\n20 1 0:5 / /sys/fs/cgroup/memory rw - cgroup none rw\n")
    assert delegated(tmp_path) is None
    (tmp_path / missing).unlink()
    assert delegated(tmp_path) is None


def test_a_worker_gets_its_limit_and_is_killed_as_a_whole(base: Path) -> None:
    groups = Cgroups(base, "/run/x")
    assert groups.limits_memory
    assert (base / "cgroup.subtree_control").read_text() == "+memory"
    path = groups.make(ONE, LIMIT)
    assert {name: (path / name).read_text() for name in ("memory.max", "memory.oom.group")} == {
        "memory.max": str(LIMIT),
        "memory.oom.group": "1",
    }
    assert groups.make(WorkerId(2), None).is_dir()


def test_a_daemon_inside_moves_to_a_child_so_that_memory_can_be_handed_down(base: Path) -> None:
    (base / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert Cgroups(base, "/run/x").limits_memory
    (own,) = [path for path in base.iterdir() if path.is_dir()]
    assert own.name.endswith("-daemon")
    assert (own / "cgroup.procs").read_text() == str(os.getpid())


def test_with_others_inside_trees_are_kept_and_memory_is_not_limited(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = Path.write_text

    def busy(path: Path, text: str) -> int:
        if path.name == "cgroup.subtree_control":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", busy)
    groups = Cgroups(base, "/run/x")
    assert not groups.limits_memory and "limits no memory" in caplog.text
    assert not (groups.make(ONE, LIMIT) / "memory.max").exists()


def test_without_the_controller_memory_is_not_limited(base: Path) -> None:
    (base / "cgroup.controllers").write_text("cpu pids\n")
    assert not Cgroups(base, "/run/x").limits_memory


def test_leftovers_of_this_run_directory_go_and_those_of_others_stay(base: Path) -> None:
    left, others = Cgroups(base, "/run/x").make(ONE, None), Cgroups(base, "/run/y").make(ONE, None)
    Cgroups(base, "/run/x")
    assert not left.exists() and others.exists()


def test_a_named_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"setting cgroup.*no cgroup of version 2"):
        Cgroups.open(str(tmp_path), "/run/x")


def test_a_delegated_one_that_fails_is_done_without(
    marked: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cgroup, "delegated", lambda: marked)
    (marked / "cgroup.controllers").unlink()
    assert Cgroups.open("", "/run/x") is None
    assert "cannot be used" in caplog.text


def test_none_is_used_where_none_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "delegated", lambda: None)
    assert Cgroups.open("", "/run/x") is None


def test_the_kernels_verdict_is_read(base: Path) -> None:
    assert out_of_memory(base, LIMIT) is None
    (base / "memory.events").write_text("low 0\nhigh 0\nmax 17\noom 1\noom_kill 0\noom_group_kill 0\n")
    assert out_of_memory(base, LIMIT) is None
    (base / "memory.events").write_text("oom 1\noom_kill 3\n")
    assert out_of_memory(base, LIMIT) == OutOfMemory("limit", LIMIT, LIMIT)
    (base / "memory.peak").write_text(str(LIMIT + 5))
    assert out_of_memory(base, LIMIT) == OutOfMemory("limit", LIMIT + 5, LIMIT)


def test_what_a_living_daemon_serves_stays_and_no_name_is_in_its_way(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = Cgroups(base, "/run/x")
    served, left = earlier.make(ONE, None), earlier.make(WorkerId(2), None)
    for path, pid in ((served, 11), (left, 12)):
        (path / "cgroup.procs").write_text(f"{pid}\n")
    killed: list[Path] = []
    monkeypatch.setattr(cgroup, "kill", killed.append)
    monkeypatch.setattr(cgroup, "remove", lambda path: path in killed)
    later = Cgroups(base, "/run/x", lambda: {11})
    assert killed == [left]
    monkeypatch.setattr(os, "getpid", lambda: 99)
    assert later.make(ONE, None) != served


def test_what_cannot_be_read_for_want_of_descriptors_is_not_empty(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(OSError, match="Too many"):
        cgroup.pids(base)
