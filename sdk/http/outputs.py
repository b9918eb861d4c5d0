"""What apps give -> JSON.  What JSON cannot hold becomes a file, and its address stands in its place."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import orjson

from warmd.http.files import Draft, Files
from warmd.http.problems import HttpProblem
from warmd.http.task import Facts

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)


class Outputs:
    """Encodes values; the files among them are written before the JSON that names them goes out."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def encoded(self, value: Any, facts: Facts) -> bytes:
        """The value as JSON.  Raises HttpProblem for what cannot be told, or kept."""
        writing = _Writing(self._files, facts)
        try:
            text = _dumped(value, writing.stand_in)
        except (TypeError, ValueError, RecursionError) as error:
            raise HttpProblem("INVALID", f"the output cannot be told as JSON: {error}") from None
        if writing.drafts:
            await self._files.write(writing.drafts)
        return text


@dataclass(slots=True)
class _Writing:
    files: Files
    facts: Facts
    drafts: list[Draft] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.drafts = []

    def stand_in(self, value: Any) -> Any:
        """What stands for a value that JSON does not have.  Raises TypeError where nothing can."""
        if isinstance(value, dict):
            return {str(key): item for key, item in value.items()}
        data, content_type, filename = _as_file(value)
        draft = self.files.draft(data, content_type, filename, self.facts.owner, self.facts.base_url)
        self.drafts.append(draft)
        return draft.told()


def _dumped(value: Any, stand_in: Any) -> bytes:
    try:
        return orjson.dumps(value, stand_in, _OPTIONS)
    except TypeError as error:
        if "Integer exceeds" not in str(error):
            raise
        return json.dumps(value, default=stand_in, separators=(",", ":")).encode()


def _as_file(value: Any) -> tuple[Any, str, str]:
    """Its bytes, their type and a name.  Raises TypeError for what is no file."""
    if isinstance(value, bytes | bytearray | memoryview):
        head = bytes(memoryview(value)[:16])
        found = _kind(head)
        return value, found, f"output.{_extension(found)}"
    kind = type(value)
    if hasattr(value, "__array__") and kind.__module__.split(".")[0] in ("numpy", "torch"):
        return _npy(value), "application/x-npy", "output.npy"
    if kind.__module__.split(".")[0] == "pyarrow":
        return _arrow(value), "application/vnd.apache.arrow.file", "output.arrow"
    name = f"{kind.__module__}.{kind.__name__}"
    raise TypeError(f"it holds a {name}; return text, numbers, lists, dicts, bytes or arrays")


def _kind(head: bytes) -> str:
    if head[:4] == b"RIFF":
        return {b"WAVE": "audio/wav", b"WEBP": "image/webp"}.get(head[8:12], "application/octet-stream")
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), "application/octet-stream")


def _extension(content_type: str) -> str:
    kind = content_type.partition("/")[2]
    return {"octet-stream": "bin", "jpeg": "jpg", "mpeg": "mp3"}.get(kind, kind)


def _npy(value: Any) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.asarray(value), allow_pickle=False)
    return buffer.getvalue()


def _arrow(value: Any) -> bytes:
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_file(sink, value.schema) as writer:
        writer.write(value)
    return sink.getvalue()
