"""The folders of sessions: none unless an app makes it, and none left, whatever ends whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import warmd
from tests.faults.watch import successor, until
from warmd.daemon import folders
from warmd.daemon.folders import Removal, folder_of, folders_dir, remove_leftovers
from warmd.daemon.processes import look_at
from warmd.daemon.worker.process import folder_name

APP = """\
import os, subprocess, sys
from pathlib import Path

from warmd import context


class Writer:
    def write(self):
        folder = Path(context.folder)
        assert folder.is_dir() and context.folder == os.environ["WARMD_SESSION_TMP"]
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "file").write_text("x")
        return str(folder)

    def name(self):
        return os.environ["WARMD_SESSION_TMP"]

    def name_seen_by_children(self):
        code = "import os; print(os.environ['WARMD_SESSION_TMP'])"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()

    def linger(self):
        '''A child that goes on writing there until it is killed.'''
        code = "import os, pathlib; p = pathlib.Path(os.environ['WARMD_SESSION_TMP'])\\n"
        code += "while True: p.mkdir(parents=True, exist_ok=True); (p / 'more').write_text('x')"
        subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "writer.py"
    path.write_text(APP)
    return path


def opened(client: warmd.Client, app: Path) -> warmd.Session:
    return client.session(f"{app}:Writer")


def there(client: warmd.LocalClient) -> list[str]:
    base = folders_dir(client.run_dir)
    return sorted(os.listdir(base)) if base.exists() else []


def test_names_are_short_and_differ() -> None:
    ids = [f"sess_{0:032x}", f"pool_{1:08x}".ljust(37, "0"), f"pool_{2:08x}".ljust(37, "0")]
    ids += [f"tmpl_{1:08x}".ljust(37, "0"), "sess_" + "f" * 32]
    names = {folder_name(id) for id in ids}
    assert len(names) == len(ids)
    assert {len(name) for name in names} == {13}


def test_each_session_has_its_own_and_nobody_one_unasked(app: Path) -> None:
    """Also forks of one template, of which only the first was spawned; and their children."""
    with warmd.testing.daemon() as client:
        sessions = [opened(client, app) for _ in range(3)]
        names = [session.call("name").output for session in sessions]
        assert names == [str(folder_of(client.run_dir, session.id)) for session in sessions]
        assert sessions[2].call("name_seen_by_children").output == names[2]
        assert there(client) == []


def test_it_is_gone_when_the_session_has_ended_whatever_did_that(app: Path) -> None:
    with warmd.testing.daemon() as client:
        ended, killed, lives = (opened(client, app) for _ in range(3))
        folders = [Path(session.call("write").output) for session in (ended, killed, lives)]
        assert len(there(client)) == 3
        ended.end()
        assert not folders[0].exists(), "end returns when nothing is left"
        os.kill(killed.info().pid, signal.SIGKILL)
        until(lambda: not folders[1].exists())
        assert (folders[2] / "deep" / "er" / "file").read_text() == "x"


def test_it_goes_after_all_that_could_still_write_there(app: Path) -> None:
    with warmd.testing.daemon() as client:
        session = opened(client, app)
        session.call("linger")
        until(lambda: there(client))
        session.end()
        assert there(client) == []


def test_it_goes_with_a_session_that_expires(app: Path) -> None:
    with warmd.testing.daemon() as client:
        session = client.session(f"{app}:Writer", session_timeout=1)
        session.call("write")
        until(lambda: not there(client))


def test_a_daemon_that_stops_leaves_none(app: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with successor(run_dir) as client:
        folder = Path(opened(client, app).call("write").output)
        assert folder.exists()
    assert not folders_dir(run_dir).exists()


def test_a_successor_removes_what_a_killed_daemon_left(app: Path) -> None:
    with warmd.testing.daemon() as daemon:
        folder = Path(opened(daemon, app).call("write").output)
        os.kill(daemon.daemon_pid, signal.SIGKILL)
        until(lambda: look_at(daemon.daemon_pid) is None)
        assert folder.exists(), "nobody is there to remove it"
        with successor(daemon.run_dir) as client:
            assert not folder.exists()
            with opened(client, app) as session:
                assert Path(session.call("write").output).exists()


def test_those_of_a_daemon_that_lives_are_spared(app: Path) -> None:
    """Two daemons may share a folder for their state."""
    with warmd.testing.daemon() as client:
        folder = Path(opened(client, app).call("write").output)
        gone = folders_dir(client.run_dir) / "s0123456789ab"
        gone.mkdir()
        (folders_dir(client.run_dir) / "stray").write_text("x")
        code = "import sys; from pathlib import Path; from warmd.daemon import folders, leftovers\n"
        code += "folders.remove_leftovers(Path(sys.argv[1]), leftovers.folders_in_service)"
        subprocess.run([sys.executable, "-c", code, str(client.run_dir)], check=True)
        assert there(client) == [folder.name]


def test_leftovers_are_not_looked_for_in_vain(tmp_path: Path) -> None:
    def in_use() -> set[str]:
        raise AssertionError("there is nothing that could be in use")

    remove_leftovers(tmp_path, in_use)
    folders_dir(tmp_path).mkdir()
    remove_leftovers(tmp_path, in_use)
    assert not folders_dir(tmp_path).exists()


def test_what_cannot_be_known_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def in_use() -> set[str]:
        raise OSError("no descriptors")

    (folders_dir(tmp_path) / "s1").mkdir(parents=True)
    remove_leftovers(tmp_path, in_use)
    assert (folders_dir(tmp_path) / "s1").exists()
    assert "no descriptors" in caplog.text


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    removal = Removal(link)
    until(lambda: removal.is_over)
    assert target.exists() and not link.is_symlink()


def test_a_folder_that_is_not_there_takes_no_thread(tmp_path: Path) -> None:
    removal = Removal(tmp_path / "nothing")
    assert removal.is_over and removal._thread is None


def test_a_file_system_that_hangs_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_remove", lambda _: time.sleep(0.5))
    (tmp_path / "slow").mkdir()
    began = time.monotonic()
    removal = Removal(tmp_path / "slow")
    assert not removal.is_over and time.monotonic() - began < 0.3
    until(lambda: removal.is_over)
