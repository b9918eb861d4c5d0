"""Sessions as pages show them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.cli.test_commands import INFO
from tests.cli.test_gpus import GPU_INFO
from warmd.http import rows


def shown(**gpu: Any) -> Any:
    info = {**INFO, "held_for": None, "lives_for": None, "gpu": {**GPU_INFO, **gpu}}
    return json.loads(rows.row(info, None, 1).json)["gpu"]


def test_since_when_it_waits_is_a_time_that_stays() -> None:
    gpu = shown(waits_seconds=12.0)
    assert gpu["waits_since"] == pytest.approx(time.time() - 12.0, abs=2.0)
    assert "waits_seconds" not in gpu
    assert (gpu["memory"], gpu["kept"], shown()["waits_since"]) == (8 * 2**30, None, None)
