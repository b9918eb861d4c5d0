"""What is uploaded, and what outputs hold that JSON cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.routing import Route

from warmd.http.options import Options


class Draft:
    """A file that is yet to be written."""

    def told(self) -> dict[str, Any]:
        """What stands for it in JSON: uri, content_type, size, filename."""
        raise NotImplementedError


class Files:
    """The files of one gateway, in one folder."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self._options = options

    def draft(self, data: Any, content_type: str, filename: str, owner: str, base_url: str) -> Draft:
        """A file of an output."""
        raise NotImplementedError

    async def write(self, drafts: Sequence[Draft]) -> None:
        """Raises HttpProblem when they cannot be kept."""
        raise NotImplementedError

    def in_input(self, value: Any, owner: str) -> Any:
        """The input with the addresses of the owner's uploaded files replaced by their paths."""
        del owner
        return value


class FileRoutes:
    """`/files`, and `/content` where the bytes are."""

    def __init__(self, options: Options, files: Files) -> None:
        self._options = options
        self._files = files

    def routes(self) -> list[Route]:
        return []
