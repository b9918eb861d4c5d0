"""The rules for every test: it touches nobody's own daemon and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.leaks import MARK, Held, left_behind
from warmd import aiolink, link
from warmd.protocol import mappings, segments

# A loaded machine must not fail a property for being slow; pytest-timeout bounds each test.
settings.register_profile(
    "warmd", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("warmd")

KEPT = ("WARMD_UPDATE_TRANSCRIPTS", "WARMD_TEST_EXAMPLES")
_PRIVATE = Path(tempfile.mkdtemp(prefix="wt-"))


def pytest_configure() -> None:
    """Give the run its own directories, so that no test finds, starts or writes to a real daemon.

    TMPDIR too: parallel runs on one machine would else see each other's files as leaks.  pytest's
    own `tmp_path` stays where people look for it.
    """
    for name in [name for name in os.environ if name.startswith("WARMD_") and name not in KEPT]:
        del os.environ[name]
    os.environ[MARK] = _PRIVATE.name
    _let_go_soon()
    os.environ["WARMD_CHECK"] = "1"  # each daemon under test checks its invariants after each event
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        folder = _PRIVATE / variable.split("_")[1].lower()
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ[variable] = str(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(_PRIVATE)
    # Started in the background by a script (`make test &`), all processes would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _let_go_soon() -> None:
    """Clients that outlive a test keep memory for the next large value, and a thread to let go of it:
    here for no longer than the check of what was left behind waits."""
    for module in (segments, mappings, link, aiolink):
        module.KEPT_SECONDS = 0.2


def pytest_unconfigure() -> None:
    tempfile.tempdir = None
    shutil.rmtree(_PRIVATE, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test after which a process, descriptor, thread, temporary file or shared memory is left.

    Fixtures of a wider scope are made before this one, so what they hold is not counted.
    """
    before = Held.now()
    yield
    left = left_behind(before)
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fixtures of the whole session are checked here, when they are gone."""
    children = Held.now().children
    if children:
        print(f"\nprocesses left behind by the whole run: {sorted(children)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
