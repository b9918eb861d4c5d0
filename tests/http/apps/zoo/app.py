"""One app for the gateway's tests: it counts, streams, waits, fails and gives odd things."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import warmd


class App:
    def setup(self, config: Any = None) -> None:
        self.config = config
        self.n = 0
        if isinstance(config, dict) and "gate" in config:
            self.wait_for(config["gate"])

    def run(self, input: Any) -> Any:
        self.n += 1
        return {"input": input, "n": self.n, "config": self.config}

    def echo(self, input: Any) -> Any:
        return input

    def count_up(self, n: int, after: str | None = None) -> Iterator[dict[str, int]]:
        if after is not None:
            self.wait_for(after)
        for i in range(n):
            yield {"i": i}

    def step_by_step(self, n: int, folder: str) -> Iterator[dict[str, int]]:
        """Yields the next when a file of its number is there.  `folder` may lack its first slash: clients
        upload what they find to be a file."""
        for i in range(n):
            yield {"i": i}
            while not (Path("/") / folder / str(i)).exists():
                time.sleep(0.01)

    def pour(self, n: int, size: int) -> Iterator[dict[str, Any]]:
        for i in range(n):
            yield {"i": i, "text": "x" * size}

    def odd_on_the_way(self, last: Any) -> Iterator[Any]:
        """Yields what no JSON can tell, and then `last`, or the same again."""
        yield {1: "", "1": ""}
        yield {1: "", "1": ""} if last is None else last

    def wait_for(self, path: str) -> str:
        while not Path(path).exists():
            time.sleep(0.01)
        return "done"

    def tells_of(self, folder: str) -> str:
        """Tells how far it is: of each file as it appears, until `done` does."""
        told: set[str] = set()
        while "done" not in told:
            for name in sorted({path.name for path in Path(folder).iterdir()} - told):
                warmd.context.progress({"file": name, "of": (1, 2)})
                told.add(name)
            time.sleep(0.01)
        return "done"

    def raise_error(self, text: str) -> None:
        raise ValueError(text)

    def die(self, says: str = "") -> None:
        print(says, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def log(self, text: str) -> None:
        warmd.context.logger.info(text)

    def say(self, text: str) -> str:
        print(text, flush=True)
        return text

    def picture(self) -> dict[str, Any]:
        return {"image": b"\x89PNG\r\n\x1a\n" + bytes(100), "kind": "square"}

    def nothing(self) -> Iterator[int]:
        yield from ()
