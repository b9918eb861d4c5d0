"""The halves in one payload: what is too large for it, and what is not a description."""

from __future__ import annotations

import msgpack
import pytest

from warmd.protocol import described
from warmd.protocol.described import MAX_DESCRIPTION_BYTES, Described, elements, in_band, joined, parted


def of(data: bytes) -> Described:
    return Described(7, b"\x90", len(data), lambda room: described.copy_bytes(data, room))


@pytest.mark.parametrize("data", [b"", b"1", b"12345"])
def test_a_payload_is_its_halves(data: bytes) -> None:
    payload = joined(b"\x90", data)
    assert in_band(of(data)) == (7, payload)
    assert tuple(map(bytes, parted(payload))) == (b"\x90", data)


def test_what_an_ext_type_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "_MAX_EXT_BYTES", MAX_DESCRIPTION_BYTES + 4)
    for fits in (b"", b"1234"):
        assert in_band(of(fits)) == (7, joined(b"\x90", fits))
    with pytest.raises(TypeError, match="5 bytes of data in one value; at most 4 GiB travel, split it"):
        joined(b"\x90", b"12345")
    with pytest.raises(TypeError, match="5 bytes"):
        in_band(of(b"12345"))


@pytest.mark.parametrize(
    "payload", [b"", b"\1\0\0", b"\0\0\0\0\x90", b"\2\0\0\0\x90", b"\xff\xff\xff\xff\x90"]
)
def test_a_payload_that_ends_in_its_description_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="description"):
        parted(payload)


def test_a_description_longer_than_any_is_refused() -> None:
    payload = joined(b"\xc0" * (MAX_DESCRIPTION_BYTES + 1), b"")
    with pytest.raises(ValueError, match="impossible length"):
        parted(payload)


@pytest.mark.parametrize(
    "description",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\xc0",
        b"\x91\xc0\xc0",
        b"\x92\xc0\xc0",
        msgpack.packb([msgpack.ExtType(1, b"x")]),
    ],
)
def test_what_is_no_description_is_refused(description: bytes) -> None:
    with pytest.raises(ValueError, match="not a description"):
        elements(description, 1)
