"""What `import warmd` and `warmd --help` cost beyond an interpreter that does nothing."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys

from benchmarks.figures import Target
from benchmarks.rows import Contest, Contestant


class Imports(Contest):
    """Processor time of whole processes, as the kernel counts it: waiting does not count."""

    key = "import"
    title = "Processor time of a process that starts and ends"
    unit = "ms"
    scale = 1e3

    def open(self, stack: contextlib.ExitStack) -> None:  # noqa: ARG002
        self.floor = _process("python -c pass", "-c", "pass")
        self.warmd = _process("import warmd", "-c", "import warmd")
        self.others = [_process("warmd --help", "-m", "warmd", "--help")]

    def targets(self) -> list[Target]:
        block = self.blocks[""]
        limits = {"import warmd": 40.0, "warmd --help": 100.0}
        return [
            Target(f"{name} beyond bare Python", self._beyond(block[name]), limit, unit="ms of CPU")
            for name, limit in limits.items()
        ]

    def _beyond(self, samples: list[float]) -> float:
        bare = self.blocks[""][self.floor.name]
        return statistics.median(one - other for one, other in zip(samples, bare, strict=True)) * 1e3


def _process(name: str, *arguments: str) -> Contestant:
    def sample() -> float:
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise ChildProcessError(f"{name} ended with {process.returncode}")
        return used.ru_utime + used.ru_stime

    return Contestant(name, sample)
