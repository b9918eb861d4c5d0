"""Where the daemon has cgroups of its own nothing gets away: not by a new environment, nor by forking."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd
from tests.faults.watch import TREE_SECONDS, await_gone, successor, until, zoo
from warmd.daemon.cgroup import kill, remove

MOUNTS = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of cgroups that is ours alone, on a machine that lets this user make one."""
    for mount in MOUNTS:
        path = mount / f"warmd-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            path.mkdir()
            if (path / "cgroup.kill").exists():
                break
            path.rmdir()
    else:
        pytest.skip("no cgroup of version 2 can be made here")
    yield path
    kill(path)
    until(lambda: remove(path))


def groups(folder: Path, *clients: warmd.Client) -> list[Path]:
    """The cgroups there are, without those of the daemons' templates."""
    templates = {inside(one["pid"]) for client in clients for one in client.status().templates if one["pid"]}
    names = {Path(path).name for path in templates}
    return [path for path in folder.iterdir() if path.is_dir() and path.name not in names]


def inside(pid: int) -> str:
    return next(
        line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::")
    )


@pytest.mark.parametrize("end", ["end", "death"])
def test_what_lost_its_token_and_its_parents_goes_with_its_session(folder: Path, end: str) -> None:
    with warmd.testing.daemon(cgroup=folder) as client:
        session, other = client.session(zoo("Forks")), client.session(zoo("Good"))
        assert len(groups(folder, client)) == 2
        worker, orphan = int(session.info().pid), int(session.call("lose_token").output)
        assert inside(worker) == inside(orphan) != inside(int(other.info().pid))
        if end == "end":
            session.end()
        else:
            os.kill(worker, signal.SIGKILL)
        await_gone([worker, orphan], TREE_SECONDS)
        until(lambda: len(groups(folder, client)) == 1)
        assert other.call("run").output is not None
    assert groups(folder) == []


def test_so_does_who_forks_as_fast_as_it_can(folder: Path) -> None:
    with warmd.testing.daemon(cgroup=folder) as client:
        session = client.session(zoo("Forks"))
        session.call("swarm")
        session.end()
        until(lambda: not groups(folder, client), TREE_SECONDS)


def test_after_a_kill_of_the_daemon_its_successor_leaves_nothing(folder: Path) -> None:
    with warmd.testing.daemon(cgroup=folder) as client:
        orphan = int(client.session(zoo("Forks")).call("lose_token").output)
        os.kill(client.daemon_pid, signal.SIGKILL)
        with successor(client.run_dir, f"--cgroup={folder}"):
            await_gone([orphan])
            assert groups(folder) == []


def test_two_daemons_share_a_folder(folder: Path) -> None:
    with warmd.testing.daemon(cgroup=folder) as one, one.session(zoo("Good")) as session:
        with warmd.testing.daemon(cgroup=folder) as two, two.session(zoo("Good")):
            assert len(groups(folder, one, two)) == 2
        assert session.call("run").output is not None


def test_a_cgroup_that_cannot_be_made_is_a_failed_start(folder: Path) -> None:
    with warmd.testing.daemon(cgroup=folder) as client:
        client.session(zoo("Good")).end()
        (folder / "cgroup.max.descendants").write_text("0")
        with pytest.raises(warmd.StartFailed, match="unavailable"):
            client.session(zoo("Good"))
        (folder / "cgroup.max.descendants").write_text("max")
        client.session(zoo("Good")).end()
