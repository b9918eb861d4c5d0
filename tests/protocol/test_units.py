import math

import pytest

from warmd.protocol import units


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (90, 90.0), (1.5, 1.5), ("90", 90.0), ("90s", 90.0), (" 5m ", 300.0), ("1h30m", 5400.0),
        ("500ms", 0.5), ("1.5h", 5400.0), ("2d", 172800.0),
    ],
)  # fmt: skip
def test_durations(value, expected):
    assert units.seconds(value, what="x") == expected


@pytest.mark.parametrize("value", ["never", "Never", math.inf])
def test_never_only_where_it_is_meant(value):
    assert units.seconds(value, what="x", allow_never=True) == math.inf
    with pytest.raises(ValueError, match="not possible here"):
        units.seconds(value, what="x")


@pytest.mark.parametrize(
    "value",
    [0, -1, 0.0, "0", "-1", "0s", "-5m", True, False, None, math.nan, -math.inf, "nan", "", "5 minutes", "5M",
     "m5", "1h 30m", [], 10**400, -(10**400), "٣", "1e5"],
)  # fmt: skip
def test_refused_durations_name_the_value_and_a_remedy(value):
    with pytest.raises(ValueError, match=r"session_timeout: .*90s") as error:
        units.seconds(value, what="session_timeout", allow_never=True)
    assert repr(value)[:100] in str(error.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        ("1", 1),
        ("256MiB", 2**28),
        ("8MB", 8_000_000),
        ("1.5KiB", 1536),
        ("2 GiB", 2**31),
        ("10B", 10),
    ],
)
def test_sizes(value, expected):
    assert units.size_bytes(value, what="x") == expected


@pytest.mark.parametrize("value", [0, -1, "-1", "0", True, 1.5, None, "1 PB", "MiB", "", "1m"])
def test_refused_sizes_name_the_value_and_a_remedy(value):
    with pytest.raises(ValueError, match=r"log_max_bytes: .*256MiB"):
        units.size_bytes(value, what="log_max_bytes")


@pytest.mark.parametrize("value", [0.5, 1.0, 59.0, 60.0, 90.0, 3600.0, 5400.0, 3661.0, math.inf])
def test_a_spelled_duration_reads_back(value):
    assert units.seconds(units.spell_seconds(value), what="x", allow_never=True) == value


@pytest.mark.parametrize("value", [1, 1000, 1024, 2**28, 3 * 2**30, 4 * 2**30 - 1])
def test_a_spelled_size_reads_back(value):
    assert units.size_bytes(units.spell_bytes(value), what="x") == value


def test_spelling_is_short():
    assert [units.spell_seconds(s) for s in (60, 90, 3600, math.inf, 1.5)] == [
        "1m",
        "1m30s",
        "1h",
        "never",
        "1.5s",
    ]
    assert [units.spell_bytes(b) for b in (2**28, 1000)] == ["256MiB", "1000B"]
