"""The warm call in parts: each layer of the real code is found and timed."""

from __future__ import annotations

from benchmarks import layers


def test_each_layer_of_a_warm_call_is_timed() -> None:
    found = layers.microseconds(5)
    assert {process for process, _ in found} == {"client", "daemon", "worker"}
    assert len(found) == 16
    assert all(us > 0 for us in found.values())
