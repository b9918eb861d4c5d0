"""Which names a source file defines, found without parsing it.

`ast.parse` of a large file holds the interpreter for seconds, on whatever thread, and with it the
daemon's loop.  So strings, comments and brackets are skipped, and of what is left only the beginnings
of lines outside of functions and classes are looked at.  Whether the file is Python is not known
then: its import in the worker says that better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r'''
    [^"'\#\\()\[\]{}\n]*+
    (?: """(?:[^"\\]++|\\.|"(?!""))*+(?:""")? | \'\'\'(?:[^'\\]++|\\.|'(?!''))*+(?:\'\'\')?
      | "(?:[^"\\\n]++|\\.)*+"? | '(?:[^'\\\n]++|\\.)*+'?
      | \#[^\n]*+
      | \\(?:\r?\n)?
      | (?P<open> [(\[{] )
      | (?P<close> [)\]}] )
      | (?P<end> \n )
      | \Z )
    ''',
    re.VERBOSE | re.DOTALL,
)
"""What ends, opens or closes, with what needs no look before it; never slow, whatever the text."""
_INDENT = re.compile(r"[ \t\f]*")
_SCOPE = re.compile(r"(?:(class)|def|async[ \t]+def)[ \t]+(\w+)")
_IMPORT = re.compile(r"(?:from\b.*?\bimport\b|import\b)(.*)", re.DOTALL)
_TARGETS = re.compile(r"(?:\w++[ \t]*+=(?!=)[ \t]*+)++|\w++[ \t]*+(?=:)")
_COMMENT = re.compile(r"#[^\n]*")
_WORD = re.compile(r"\w+")


class Names(NamedTuple):
    classes: list[str]
    """Those of `class` statements at the top, also inside `if` and `try`, in their order."""
    others: set[str]
    """What is imported or assigned there; `*` for whatever that brings."""


def names_in(source: str) -> Names:
    classes: list[str] = []
    others: set[str] = set()
    for begin, end in _top_lines(source):
        if (scope := _SCOPE.match(source, begin, end)) is not None:
            if scope[1]:
                classes.append(scope[2])
        elif (imported := _IMPORT.match(source, begin, end)) is not None:
            others.update(_imported(_COMMENT.sub("", imported[1])))
        elif (targets := _TARGETS.match(source, begin, end)) is not None:
            others.update(_WORD.findall(targets[0]))
    return Names(classes, others)


def _imported(text: str) -> Iterator[str]:
    for item in text.strip(" \t\r\n()\\").split(","):
        name = item.rpartition(" as ")[2].strip(" \t\r\n\\")
        if name:
            yield name.partition(".")[0]


def _top_lines(source: str) -> Iterator[tuple[int, int]]:
    """Where the logical lines begin, behind their indentation, and end that are in no class or function."""
    scope: int | None = None
    for begin, end in _lines(source):
        start = _INDENT.match(source, begin, end).end()  # type: ignore[union-attr]
        if start == end or source[start] in "#\r":
            continue
        depth = len(source[begin:start].expandtabs())
        if scope is not None and depth > scope:
            continue
        scope = depth if _SCOPE.match(source, start, end) else None
        yield start, end


def _lines(source: str) -> Iterator[tuple[int, int]]:
    """Where the logical lines begin and end."""
    begin = depth = 0
    for token in _TOKEN.finditer(source):
        kind = token.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "end" and not depth:
            yield begin, token.end() - 1
            begin = token.end()
    yield begin, len(source)
