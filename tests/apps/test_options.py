"""What `setup` of the apps is given, and packages that are missing."""

from __future__ import annotations

import pytest

from warmd.apps import options
from warmd.apps.extras import needed


def opened(model=None, threads=1):
    return model, threads


def test_options_are_parameters():
    seen = []
    options.configure(lambda model=None, threads=1: seen.append((model, threads)), {"threads": 3})
    options.configure(lambda model=None: seen.append(model), None)
    assert seen == [(None, 3), None]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"modle": 1}, "setup has no option 'modle': did you mean 'model'"),
        ({"zzz": 1}, "setup has no option 'zzz': there are model, threads"),
        ({3: 1}, "setup has no option '3': there are"),
        ("model", "setup takes a dict of options, not 'model'"),
    ],
)
def test_an_option_that_there_is_not_is_named(config, text):
    with pytest.raises(TypeError, match=text):
        options.configure(opened, config)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2", None])
def test_counts_are_whole_numbers_from_1(value):
    with pytest.raises(ValueError, match=r"batch_size is .*, allowed are whole numbers from 1 on"):
        options.positive("batch_size", value)
    assert options.positive("batch_size", 1) == 1


def test_a_choice_names_what_is_allowed():
    assert options.one_of("pooling", "cls", ("mean", "cls")) == "cls"
    with pytest.raises(ValueError, match="pooling is 'max', allowed are mean, cls"):
        options.one_of("pooling", "max", ("mean", "cls"))


def test_a_missing_package_is_named_with_its_command():
    assert needed("json", "demo", "pip install x").dumps(1) == "1"
    with pytest.raises(ImportError, match=r"the app demo needs no_such_package .*: pip install 'warmd"):
        needed("no_such_package", "demo", "pip install 'warmd[demo]'")
