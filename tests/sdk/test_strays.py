"""What signal handlers raise in the midst of the library's work: the caller gets it, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import warmd
from tests.sdk.fakedaemon import SESSION
from warmd.protocol import values

ECHO: dict[str, Any] = {"app": "x", "function": "echo", "session": SESSION}


def struck_once(work: Callable[..., Any]) -> Callable[..., Any]:
    strikes = iter([TimeoutError("the alarm rang")])

    def struck(*arguments: Any) -> Any:
        for strike in strikes:
            raise strike
        return work(*arguments)

    return struck


def test_while_a_value_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_unpack", struck_once(values._unpack))
    with pytest.raises(TimeoutError, match="the alarm rang"):
        values.unpack(values.pack([1, 2]))
    assert values.unpack(values.pack([1, 2])) == [1, 2]


def test_memory_that_is_not_to_be_had_is_said_as_such(
    faked: warmd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr("warmd.result.unpack", no_memory)
    with pytest.raises(warmd.DaemonFailed, match=r"of 1 bytes cannot be read: .*ulimit -v") as caught:
        faked.run(**ECHO, input=1)
    assert caught.value.ran == "yes"
