"""The fake GPU driver, with a daemon that is soon out of patience: so a test of what hangs need not wait.

Named as a daemon's `gpu_driver` it is asked there first, before anything moves.
"""

from __future__ import annotations

import os
import sys

from tests import fakegpu
from tests.fakegpu import open_driver as open_driver

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



def why_unavailable() -> str:
    """Asked by the daemon before it does anything with GPUs; a test that imports this is left as it is."""
    _be_hasty()
    return fakegpu.why_unavailable()


def _be_hasty() -> None:
    policy, devices = sys.modules["warmd.daemon.core.policy"], sys.modules["warmd.daemon.devices"]
    orders = sys.modules["warmd.daemon.gpuorders"]
    for module, constants in (
        (policy, {"MOVE_SECONDS": MOVE_SECONDS, "LOOK_SECONDS": LOOK_AGAIN_SECONDS}),
        (
            devices,
            {
                "LOOK_SECONDS": LOOK_SECONDS,
                "SETTLE_SECONDS": SETTLE_SECONDS,
                "LONGEST_PAUSE_SECONDS": LONGEST_PAUSE_SECONDS,
            },
        ),
        (
            orders,
            {
                "LOCK_SECONDS": LOCK_SECONDS,
                "LEAST_SECONDS": DRIVER_SECONDS,
                "SETTLING_SECONDS": MOVE_SECONDS - DRIVER_SECONDS,
            },
        ),
    ):
        vars(module).update(constants)
