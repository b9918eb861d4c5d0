"""How much of a stream may be on its way."""

from __future__ import annotations

from warmd.daemon.worker.window import Window


def test_parts_count() -> None:
    window = Window(2, None)
    window.sent(10**9)
    assert window.is_open
    window.sent(10**9)
    assert not window.is_open
    window.more(1)
    assert window.is_open


def test_bytes_count_too_and_come_free_in_the_order_of_the_parts() -> None:
    window = Window(100, 1000)
    for size in (600, 300, 200):
        assert window.is_open
        window.sent(size)
    assert not window.is_open
    window.more(1)
    assert window.is_open  # 500 bytes are on their way
    window.sent(500)
    assert not window.is_open
    window.more(1)
    assert window.is_open
    window.more(50)
    assert window.is_open


def test_one_part_of_any_size_may_go_when_nothing_else_is_on_its_way() -> None:
    window = Window(100, 1000)
    assert window.is_open
    window.sent(10**9)
    assert not window.is_open
    window.more(1)
    assert window.is_open
