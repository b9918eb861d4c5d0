"""Which names a source file defines, as far as its text tells."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from warmd.daemon.sources import names_in

ZOO = Path(__file__).parents[1]
PIECES = ["x", "x=", '"', "('", "\\", "\n", " a\n", "from (", "import a,", '"""x', "class A:\n"]


@pytest.mark.parametrize(
    ("source", "classes"),
    [
        ("class A: ...\nclass B(A):\n    x = 1\n\n    class Inner: ...\n", ["A", "B"]),
        ("def f():\n    class Inner: ...\nasync  def g(a,\n  b):\n  class Inner: ...\nclass A: ...", ["A"]),
        ("try:\n    import x\nexcept ImportError:\n    class A: ...\nelse:\n\tclass B:\n\t\tx = 1", [*"AB"]),
        ("'''\nclass No: ...\n'''\nclass A: ...", ["A"]),
        ('"""it\'s \\"""\nclass No: ...\n"""\nclass A: ...', ["A"]),
        ("x = [\nclass_, # (\n]\n# class No: (\nclass A: ...", ["A"]),
        ("x = r'\\'' \\\n\nclass A: ...", ["A"]),
        ("x = 'unclosed (\nclass A: ...\ny = )\nclass B: ...", ["A", "B"]),
        ("class A(:", ["A"]),
        ("(" * 1000 + "\nclass No: ...", []),
        ("classes = 1\nclass\n", []),
        ("", []),
    ],
)
def test_classes_at_the_top(source: str, classes: list[str]) -> None:
    assert names_in(source).classes == classes


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b, c as d", {"a", "d"}),
        ("from .x import (  # (why\n    a,\n    b as c,\n)", {"a", "c"}),
        ("from x import a, \\\n  b", {"a", "b"}),
        ("from x import *", {"*"}),
        ("A = B = c == d", {"A", "B"}),
        ("A: type = b", {"A"}),
        ("def f():\n    A = 1\nif x:\n    B = 2", {"B"}),
        ("a.b = 1\nc[0] = 2\nd == 3", set()),
    ],
)
def test_other_names_at_the_top(source: str, names: set[str]) -> None:
    assert names_in(source).others == names


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.py")), ids=lambda path: path.name)
def test_it_finds_the_classes_that_the_parser_finds(path: Path) -> None:
    source = path.read_text()
    parsed = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert names_in(source).classes == parsed


@pytest.mark.parametrize("piece", PIECES)
def test_no_text_takes_long(piece: str) -> None:
    """More than linear time would be hours here."""
    names_in(piece * (2**20 // len(piece)))
