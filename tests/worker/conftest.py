from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.daemon import FakeDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(tmp_path)
    yield fake
    fake.close()
