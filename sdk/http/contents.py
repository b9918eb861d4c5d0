"""What a file is, by its first bytes or its name, and a name under which it can be kept anywhere."""

from __future__ import annotations

import mimetypes
import re

UNKNOWN = "application/octet-stream"
HEAD_BYTES = 64
"""So much of a file's beginning is looked at."""
MOST_NAME_BYTES = 120
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"glTF", "model/gltf-binary"),
    (b"\x93NUMPY", "application/x-npy"),
    (b"ARROW1\0\0", "application/vnd.apache.arrow.file"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
)
_RIFF = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_BRANDS = {
    b"avif": "image/avif", b"heic": "image/heic", b"mif1": "image/heif", b"M4A ": "audio/mp4",
    b"qt  ": "video/quicktime",
}  # fmt: skip
_EXTENSIONS = {
    UNKNOWN: ".bin", "image/jpeg": ".jpg", "audio/mpeg": ".mp3", "audio/wav": ".wav", "audio/ogg": ".ogg",
    "audio/flac": ".flac", "audio/mp4": ".m4a", "image/webp": ".webp", "application/x-npy": ".npy",
    "application/vnd.apache.arrow.file": ".arrow", "application/vnd.apache.arrow.stream": ".arrows",
    "application/vnd.apache.parquet": ".parquet", "model/gltf-binary": ".glb", "application/zstd": ".zst",
    "application/gzip": ".gz",
}  # fmt: skip
_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,60}(; ?[a-z]{1,20}=[A-Za-z0-9_.-]{1,40})?"
)
_SHOWN = re.compile(r"(image|audio|video)/(?!svg)|text/plain\b")


def is_type(text: str) -> bool:
    """Whether it is a content type that may stand in a header."""
    return _TYPE.fullmatch(text) is not None


def may_be_shown(content_type: str) -> bool:
    """Whether a browser may show it in its window: nothing that can hold a script."""
    return _SHOWN.match(content_type.lower()) is not None


def type_of(head: bytes, filename: str = "") -> str:
    """The content type by the name, or else by the first bytes."""
    return mimetypes.guess_type(filename)[0] or _by_magic(head)


def _by_magic(head: bytes) -> str:
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], UNKNOWN)
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[:4] == b"\x1aE\xdf\xa3":
        return "video/webm" if b"webm" in head[:HEAD_BYTES] else "video/x-matroska"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), UNKNOWN)


def extension_of(content_type: str) -> str:
    kind = content_type.partition(";")[0]
    return _EXTENSIONS.get(kind) or mimetypes.guess_extension(kind) or ".bin"


def safe_name(name: str, content_type: str) -> str:
    """The last part of a name, without what could lead elsewhere, hide it, or be refused by a disk.

    It is never empty, never begins with a dot, and has at most `MOST_NAME_BYTES` of UTF-8.
    """
    last = re.split(r"[/\\]", name)[-1].encode("utf-8", "replace").decode()
    plain = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in last).strip(" .")
    stem, dot, extension = plain.rpartition(".")
    if not dot or len(extension.encode()) > 16:
        stem, extension = plain, ""
    room = MOST_NAME_BYTES - len((dot + extension).encode())
    stem = stem.encode()[:room].decode("utf-8", "ignore").strip(" .")
    if not stem:
        return f"file{extension_of(content_type)}"
    return f"{stem}.{extension}" if extension else stem
