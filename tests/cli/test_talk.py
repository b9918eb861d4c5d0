"""Tables, spans and colours."""

from __future__ import annotations

import doctest
import io

import pytest

from warmd.cli import talk


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(talk).failed == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "wanted"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_only_where_it_is_wanted(stream: io.StringIO, environ: dict[str, str], wanted: bool) -> None:
    assert talk.colour_wanted(stream, environ) is wanted


def test_the_timing_line_leaves_out_what_did_not_happen() -> None:
    nothing = dict.fromkeys(("queue", "spawn", "imports", "setup"), 0.0)
    timing = {"cold": False, **nothing, "run": 0.002, "total": 0.003}
    line = talk.timing_line("sess_1", timing)
    assert line == "session sess_1 · warm · queue 0.0ms · run 2.0ms · total 3.0ms"
    cold = {**timing, "cold": True, "spawn": 0.12}
    assert "spawn 120ms" in talk.timing_line(None, cold)
    assert talk.timing_line(None, None) == "shared pool"
