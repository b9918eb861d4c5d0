"""A file comes back as it was, and is refused where it is not there."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest

import warmd
from warmd.protocol.files import FILE_CODE, File
from warmd.protocol.values import Unpackable, pack, unpack


@pytest.mark.parametrize("name", ["plot.png", "two words", "\udcff.bin", "é"])
def test_a_file_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    file = File(path, "image/png", "shown.png")
    assert unpack(pack({"a": [file, (File(path),)]})) == {"a": [file, (File(path),)]}
    assert (File(path).path, File(path).filename, File(path).content_type) == (str(path), name, None)
    assert warmd.File is File


def test_a_relative_path_is_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").touch()
    assert File("a").path == str(tmp_path / "a")


@pytest.mark.parametrize("path", ["nix", ".", "a\0b"])
def test_a_path_without_a_file_is_refused_at_once(path: str) -> None:
    with pytest.raises(FileNotFoundError, match="no file at"):
        File(path)


def test_one_that_is_gone_is_refused_when_it_is_to_travel(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    file = File(path)
    packed = pack(file)
    path.unlink()
    with pytest.raises(Unpackable, match=r"output\[0\]: no file at .* has to stay"):
        pack([file], "output")
    assert unpack(packed) == file


@pytest.mark.parametrize(
    "parts", [["a", None, "a"], ["/a", 1, "a"], ["/a", None, ""], ["/a", None], ["/a\0", None, "a"], 3]
)
def test_what_is_no_file_is_not_taken_for_one(parts: object) -> None:
    payload = msgpack.packb(parts)
    with pytest.raises(ValueError, match="not a packed value"):
        unpack(msgpack.packb(msgpack.ExtType(FILE_CODE, payload)))
