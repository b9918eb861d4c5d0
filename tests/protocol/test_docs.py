"""docs/protocol.md is what a client in another language is written from: it must be true."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from warmd.protocol import errors, messages, wire

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


def rows_below(heading: str) -> dict[str, tuple[str, list[str], list[str]]]:
    """Message name -> (kind, header fields, body frames), as the table below `heading` has them."""
    section = DOCUMENT.split(heading, 1)[1].split("\n##", 1)[0]
    rows = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].isdigit():
            rows[cells[1]] = (cells[0], re.findall(r"`(\w+)`", cells[2]), re.findall(r"`(\w+)`", cells[3]))
    return rows


@pytest.mark.parametrize(
    ("heading", "codec"),
    [("### Client to daemon", wire.FROM_CLIENT), ("### Daemon to client", wire.FROM_DAEMON)],
)
def test_the_tables_list_every_message_with_its_fields_in_wire_order(
    heading: str, codec: wire.Codec[object]
) -> None:
    expected = {}
    for kind, layout in codec._layouts.items():
        bodies = list(layout.body_names)
        header = [f.name for f in fields(layout.cls) if f.name not in bodies]  # type: ignore[arg-type]
        expected[layout.cls.__name__] = (str(kind), header, bodies)
    assert rows_below(heading) == expected


@pytest.mark.parametrize("record", [messages.AppRef, messages.Origin, messages.NewSession, messages.Timing])
def test_the_records_are_listed_in_their_order(record: type) -> None:
    line = next(line for line in DOCUMENT.splitlines() if line.startswith(f"| {record.__name__} |"))
    assert tuple(re.findall(r"`(\w+)`", line)) == record._fields  # type: ignore[attr-defined]


def test_the_design_lists_every_code() -> None:
    design = (Path(__file__).parents[2] / "docs" / "design.md").read_text()
    assert [code for code in errors.BY_CODE if code not in design] == []
