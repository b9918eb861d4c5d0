"""The files of an app and the session that runs it, for tests that edit them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.worker.daemon import FakeDaemon
from warmd.protocol.work import Declined, Ready


class Project:
    """The files of an app and the session that runs it."""

    def __init__(self, folder: Path, daemon: FakeDaemon) -> None:
        self.folder, self.daemon = folder, daemon
        self.texts: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        self.texts[name] = dedent(text)
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.texts[name])

    def edit(self, what: str, by: str, name: str = "app.py") -> None:
        assert what in self.texts[name]
        self.write(name, self.texts[name].replace(what, by))

    def start(self, target: str = "app:App", **options: Any) -> Ready:
        ready = self.daemon.start(target, paths=(str(self.folder),), reload=True, **options)
        assert isinstance(ready, Ready), ready
        return ready

    def refusal(self, function: str = "predict") -> str:
        reply = self.daemon.call(function)
        assert isinstance(reply, Declined), reply
        return str(reply.message)
