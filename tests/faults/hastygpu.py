"""The fake GPU driver, with a daemon that is soon out of patience: so a test of what hangs need not wait.

Named as a daemon's `gpu_driver` it is imported there first, before anything moves.
"""

from __future__ import annotations

import os
import sys

from tests.fakegpu import open_driver as open_driver
from tests.fakegpu import why_unavailable as why_unavailable

VARIABLE = "HASTY_GPU_SECONDS"
MOVE_SECONDS = float(os.environ.get(VARIABLE, "6"))
"""After so long a move is given up."""
DRIVER_SECONDS = 0.5
"""So much of it is the driver's."""
LOCK_SECONDS = 0.3
LOOK_SECONDS = 1.0
SETTLE_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 0.3
"""Until the next helper, where many have died."""

if (policy := sys.modules.get("warmd.daemon.core.policy")) is not None:
    policy.MOVE_SECONDS = MOVE_SECONDS  # type: ignore[attr-defined]
    policy.LOOK_SECONDS = LOOK_AGAIN_SECONDS  # type: ignore[attr-defined]
if (devices := sys.modules.get("warmd.daemon.devices")) is not None:
    devices.LOOK_SECONDS = LOOK_SECONDS  # type: ignore[attr-defined]
    devices.SETTLE_SECONDS = SETTLE_SECONDS  # type: ignore[attr-defined]
    devices.LONGEST_PAUSE_SECONDS = LONGEST_PAUSE_SECONDS  # type: ignore[attr-defined]
if (orders := sys.modules.get("warmd.daemon.gpuorders")) is not None:
    orders.LOCK_SECONDS = LOCK_SECONDS  # type: ignore[attr-defined]
    orders.LEAST_SECONDS = DRIVER_SECONDS  # type: ignore[attr-defined]
    orders.SETTLING_SECONDS = MOVE_SECONDS - DRIVER_SECONDS  # type: ignore[attr-defined]
