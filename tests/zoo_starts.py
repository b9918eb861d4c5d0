"""Apps of the zoo that fail at their start or end."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

FOREVER = 3600.0


class SetupRaises:
    def setup(self) -> None:
        raise ValueError("setup does not want to")

    def run(self) -> None:
        pass


class SetupExits:
    def setup(self) -> None:
        sys.exit(4)

    def run(self) -> None:
        pass


class SetupDies:
    def setup(self) -> None:
        print("setup is dying")
        os._exit(12)

    def run(self) -> None:
        pass


class SetupCrashes:
    def setup(self) -> None:
        ctypes.string_at(0)

    def run(self) -> None:
        pass


class SetupHangs:
    def setup(self) -> None:
        time.sleep(FOREVER)

    def run(self) -> None:
        pass


class SetupSlow:
    def setup(self, config: Any = None) -> None:
        time.sleep(0.5 if config is None else float(config))

    def run(self) -> str:
        return "ran"


class SetupForks:
    def setup(self) -> None:
        if os.fork() == 0:
            time.sleep(FOREVER)
            os._exit(0)
        raise ValueError("setup forked and failed")

    def run(self) -> None:
        pass


class SetupHangsInC:
    def setup(self) -> None:
        sum(range(10**15))

    def run(self) -> None:
        pass


class InitRaises:
    def __init__(self) -> None:
        raise ValueError("no instance")

    def run(self) -> None:
        pass


class UnloadRaises:
    def run(self) -> str:
        return "ran"

    def unload(self) -> None:
        raise ValueError("unload does not want to")


class UnloadHangs:
    def run(self) -> str:
        return "ran"

    def unload(self) -> None:
        time.sleep(FOREVER)
