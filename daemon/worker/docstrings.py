"""What a docstring says: its first paragraph, and about each parameter."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ENTRY = re.compile(r"(?P<indent>\s*)(?::param\s+)?\*{0,2}(?P<name>\w+)(?:\s*\([^)]*\))?\s*:\s*(?P<text>.*)")
_NUMPY = re.compile(r"^\s*Parameters\s*\n\s*-{3,}\s*$", re.MULTILINE)


def first_paragraph(doc: str) -> str:
    return " ".join(doc.strip().split("\n\n", 1)[0].split())


def texts_of(doc: str, names: Iterable[str]) -> dict[str, str]:
    """What is said of each of these parameters, in the style of Google, NumPy, Sphinx, or `name: text`.

    >>> texts_of("Adds.\\n\\nArgs:\\n    by: how much,\\n        at most 3", ["by"])
    {'by': 'how much, at most 3'}
    """
    wanted, found = set(names), dict[str, str]()
    lines = doc.splitlines()
    types_come_first = _NUMPY.search(doc) is not None
    for number, line in enumerate(lines):
        entry = _ENTRY.fullmatch(line)
        if entry is None or entry["name"] not in wanted or not number:
            continue
        more = _indented_below(lines[number + 1 :], len(entry["indent"]))
        text = " ".join(more if types_come_first and more else [entry["text"], *more])
        if text.strip():
            found.setdefault(entry["name"], text.strip())
    return found


def _indented_below(lines: list[str], indent: int) -> list[str]:
    deeper = []
    for line in lines:
        if not line.strip() or len(line) - len(line.lstrip()) <= indent:
            break
        deeper.append(line.strip())
    return deeper
