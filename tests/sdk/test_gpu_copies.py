"""Which of the weights that `warmd.gpu.offload` keeps are copied out again."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from tests.sdk.gpustand import MIB, Stand, assert_same, frozen, kept, size_of
from warmd.gpu import CannotPin, Offload

torch: Any = pytest.importorskip("torch")


@pytest.fixture
def stand() -> Stand:
    return Stand()


@pytest.fixture
def large(stand: Stand) -> tuple[Any, Offload]:
    """Two parameters of which one changes; they are large enough to be looked at."""
    net = torch.nn.Linear(2048, 256, bias=False)
    net.other = torch.nn.Linear(2048, 256, bias=False)
    handle = kept(stand, net)
    handle.park()
    handle.unpark()
    assert stand.out_bytes == 4 * MIB
    stand.out_bytes = 0
    return net, handle


def moved(stand: Stand, handle: Offload, net: Any) -> int:
    """How much was copied out, the weights being the same afterwards."""
    before, stand.out_bytes = frozen(list(net.parameters())), 0
    handle.park()
    handle.unpark()
    assert_same(before)
    return stand.out_bytes


def test_what_has_not_changed_is_not_copied_out_again(stand: Stand, large: tuple[Any, Offload]) -> None:
    net, handle = large
    net(torch.randn(3, 2048)).sum().backward()
    assert moved(stand, handle, net) == 0
    assert stand.back_bytes == 8 * MIB


CHANGES = {
    "in place": lambda weight: weight.add_(1),
    "a view": lambda weight: weight[3].zero_(),
    "one element": lambda weight: weight.view(-1)[-1].neg_(),
    "behind the counter": lambda weight: weight.data.mul_(2),
    "one bit behind the counter": lambda weight: weight.data.view(torch.int32)[7, 9].bitwise_xor_(1),
    "rows behind the counter": lambda weight: weight.data.copy_(weight.data.flip(0)),
    "columns behind the counter": lambda weight: weight.data.copy_(weight.data.flip(1)),
    "by somebody else": lambda weight: ctypes.memset(weight.data_ptr() + 5, 3, 100),
}


@pytest.mark.parametrize("how", CHANGES)
def test_what_has_changed_is(stand: Stand, large: tuple[Any, Offload], how: str) -> None:
    net, handle = large
    with torch.no_grad():
        CHANGES[how](net.weight)
    assert moved(stand, handle, net) == 2 * MIB
    assert moved(stand, handle, net) == 0


def test_the_counter_alone_is_enough(
    stand: Stand, large: tuple[Any, Offload], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, handle = large
    monkeypatch.setattr(stand, "sums", lambda storages: [(0, 0)] * len(storages))
    assert moved(stand, handle, net) == 4 * MIB
    assert moved(stand, handle, net) == 0
    with torch.no_grad():
        net.weight.add_(1)
    assert moved(stand, handle, net) == 2 * MIB


def test_where_the_sums_cannot_be_computed_all_is_copied(
    stand: Stand, large: tuple[Any, Offload], monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(_: Any) -> Any:
        raise torch.OutOfMemoryError("no memory for a sum")

    net, handle = large
    monkeypatch.setattr(stand, "sums", short)
    assert moved(stand, handle, net) == 4 * MIB


def test_always_copy_trusts_nothing(stand: Stand) -> None:
    net = torch.nn.Linear(2048, 256, bias=False)
    handle = kept(stand, net, always_copy=True)
    assert [moved(stand, handle, net) for _ in range(3)] == [2 * MIB] * 3


def test_statistics_that_batch_normalisation_writes_are_kept(stand: Stand) -> None:
    """It does not count these writes."""
    net = torch.nn.BatchNorm1d(400_000)
    handle = kept(stand, net)
    handle.park()
    handle.unpark()
    version = net.running_mean._version
    net(torch.randn(2, 400_000))
    assert net.running_mean._version == version and net.running_mean.abs().sum() > 0
    before = frozen([net.running_mean, net.running_var])
    handle.park()
    handle.unpark()
    assert_same(before)


def test_weights_that_were_exchanged_are_found(stand: Stand, large: tuple[Any, Offload]) -> None:
    net, handle = large
    net.weight.data = torch.randn(256, 2048)
    net.other.weight = torch.nn.Parameter(net.other.weight.data)
    pinned = handle.host_bytes
    assert moved(stand, handle, net) == 4 * MIB
    assert handle.host_bytes == pinned
    for _ in range(5):
        net.weight.data = torch.randn(256, 2048)
        assert moved(stand, handle, net) == 2 * MIB
    assert handle.host_bytes == pinned


def test_tensors_of_inference_mode_have_no_counter(stand: Stand) -> None:
    with torch.inference_mode():
        net = torch.nn.Linear(2048, 256, bias=False)
    handle = kept(stand, net)
    assert [moved(stand, handle, net) for _ in range(2)] == [2 * MIB, 0]
    with torch.inference_mode():
        net.weight.add_(1)
    assert moved(stand, handle, net) == 2 * MIB


def test_a_copy_out_that_fails_leaves_it_where_it_was(stand: Stand, large: tuple[Any, Offload]) -> None:
    net, handle = large
    net.weight.data.add_(1)
    before = frozen(list(net.parameters()))
    stand.fails_copy = True
    with pytest.raises(RuntimeError, match="an error of CUDA"):
        handle.park()
    assert not handle.parked
    assert_same(before)
    stand.fails_copy = False
    assert moved(stand, handle, net) == 2 * MIB


def test_where_it_cannot_grow_it_is_not_parked(stand: Stand, large: tuple[Any, Offload]) -> None:
    net, handle = large
    net.more = torch.nn.Linear(2048, 256)
    stand.room_bytes = 0
    with pytest.raises(CannotPin):
        handle.park()
    assert not handle.parked and size_of(net.weight) == 2 * MIB
    del net.more
    assert moved(stand, handle, net) == 0
