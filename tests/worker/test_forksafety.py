"""What makes a process unfit to be forked, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from warmd.daemon.worker import sources

ASK = """
import ctypes, os, socket, subprocess, threading
from warmd.daemon.worker import forksafety
KEPT = []
def thread(name):
    def live():
        ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
        named.set()
        threading.Event().wait()
    named = threading.Event()
    KEPT.append(threading.Thread(target=live, name=name, daemon=True))
    KEPT[0].start()
    assert named.wait(10)
def native_thread(name):
    thread(name)
    threading._active.pop(KEPT[0].ident)  # as one that Python does not know
before = forksafety.open_sockets()
{act}
print(forksafety.objection(before))
"""


def objection(act: str) -> str:
    code = ASK.replace("{act}", textwrap.dedent(act))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert not done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("pass", ""),
        ("thread('ticker')", "started a thread (ticker)"),
        ("native_thread('somebody')", "started a thread (somebody)"),
        ("native_thread('jemalloc_bg_thd')", ""),
        ("KEPT.append(socket.socket())", "opened a socket"),
        ("KEPT.append(open(os.devnull))", ""),
        ("KEPT.append(subprocess.Popen(['sleep', '5']))", "started a process (pid "),
    ],
)
def test_what_is_said(act: str, said: str) -> None:
    found = objection(act)
    assert said in found if said else not found


def test_a_socket_that_was_there_before_is_no_objection() -> None:
    assert objection("KEPT.append(socket.socket()); before = forksafety.open_sockets()") == ""


def test_a_device_of_a_gpu_is_one() -> None:
    """As no GPU is needed for that, its name stands in for the device."""
    act = """
    forksafety._link = lambda fd: "/dev/nvidia0" if fd == "0" else ""
    forksafety._is_gpu = lambda link: link == "/dev/nvidia0"
    """
    assert "opened /dev/nvidia0" in objection(act)


def test_cuda_in_use_is_one_too() -> None:
    act = """
    import sys
    from types import SimpleNamespace
    sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    """
    assert objection(act).startswith("importing it initialised CUDA in torch: a process that has used a GPU")


def test_what_has_asked_torch_for_gpus_is_told_so() -> None:
    act = """
    import sys
    sys.modules["torch"] = None
    forksafety._link = lambda fd: "/dev/nvidiactl" if fd == "0" else ""
    forksafety._is_gpu = lambda link: link == "/dev/nvidiactl"
    """
    assert "opened /dev/nvidiactl, as torch.cuda.is_available() does: " in objection(act)


def test_a_trial_that_hangs_is_an_objection() -> None:
    act = """
    forksafety.TRIAL_SECONDS = 0.1
    os.register_at_fork(after_in_child=lambda: threading.Event().wait(20))
    thread('ticker')
    """
    assert "hung" in objection(act)


def test_a_source_is_known_by_its_time_and_size(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("one")
    found = sources.look(str(path))
    assert found is not None and sources.unchanged([found])
    path.write_text("three")
    assert not sources.unchanged([found])
    path.unlink()
    assert not sources.unchanged([found]) and sources.look(str(path)) is None


def test_the_sources_are_the_own_modules_and_the_folders_of_packages() -> None:
    found = {source.path for source in sources.read_so_far()}
    assert __file__ in found
    assert not any(path.startswith(os.path.join(sys.base_prefix, "lib")) for path in found)
    assert [path for path in found if os.path.basename(path) == "site-packages"]
