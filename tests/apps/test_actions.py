"""Functions that are named in the input."""

from __future__ import annotations

import pytest

from warmd.apps.actions import Actions


class Lamp(Actions):
    def setup(self):
        raise AssertionError("a hook is no action")

    def park(self):
        raise AssertionError("nor is this one")

    unpark = park

    def turn(self, on, *, dimmed=False):
        return {"on": on, "dimmed": dimmed}

    def blink(self, times=2):
        yield from range(times)

    def mix(self, *, color, **options):
        return {"color": color, **options}

    def _hidden(self):
        raise AssertionError("a private method is no action")


class Described(Lamp):
    default_action = "turn"


def test_an_action_gets_the_other_keys():
    assert Lamp().run({"action": "turn", "on": True, "dimmed": True}) == {"on": True, "dimmed": True}
    assert list(Lamp().run({"action": "blink", "times": 3})) == [0, 1, 2]


def test_an_input_without_one_means_the_default():
    assert Described().run({"on": False}) == {"on": False, "dimmed": False}


def test_init_only_names_what_there_is():
    assert Lamp().run({"action": "init"}) == {"actions": ["blink", "init", "mix", "turn"]}


@pytest.mark.parametrize(
    ("input", "kind", "text"),
    [
        ({"action": "trun"}, ValueError, "unknown action 'trun': did you mean 'turn'?"),
        ({"action": "setup"}, ValueError, "unknown action 'setup': there are blink, init, mix, turn"),
        ({"action": "_hidden"}, ValueError, "unknown action '_hidden'"),
        ({"action": ["turn"]}, ValueError, "unknown action"),
        ({"on": True}, ValueError, "the input names no action: there are blink, init, mix, turn"),
        ({"action": "turn"}, TypeError, "the action 'turn': missing a required argument: 'on'"),
        ({"action": "turn", "no": 1, "on": 1}, TypeError, "'turn' has no option 'no': there are dimmed"),
        ({"action": "turn", "ohn": 1}, TypeError, "'turn' has no option 'ohn': did you mean 'on'?"),
        ({"action": "init", "x": 1}, TypeError, "the action 'init' has no option 'x': there is none"),
        ({"action": "mix", "colour": 1}, TypeError, "a required argument: 'color', but 'colour' was given"),
        ("turn", TypeError, "the input must be a dict with an 'action', not 'turn'"),
        ({"action": "turn", 3: 4}, TypeError, "keywords must be strings"),
    ],
)
def test_refusals(input, kind, text):
    with pytest.raises(kind, match=text.replace("?", r"\?")):
        Lamp().run(input)
