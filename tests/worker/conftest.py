from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.daemon import FakeDaemon, started


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(tmp_path)
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def raises(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    """One worker for all tests of a module: it must survive whatever they do.  So the next ones."""
    yield from started("Raises", tmp_path_factory)


@pytest.fixture(scope="module")
def hangs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    yield from started("Hangs", tmp_path_factory)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    yield from started("Async", tmp_path_factory)
