"""What `warmd.gpu.offload` does to torch's modules and tensors; host memory stands in for the GPU's."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import pytest

import warmd
from tests.sdk.gpustand import MIB, Stand, assert_same, frozen, kept, size_of
from warmd import gpu, gpumemory
from warmd.app import context
from warmd.gpu import CannotPin, Offload
from warmd.gpumemory import Cuda

torch: Any = pytest.importorskip("torch")


@pytest.fixture
def stand() -> Stand:
    return Stand()


class Net(torch.nn.Module):  # type: ignore[misc]
    """Tied weights, views, other types, buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(100, 300)
        self.head = torch.nn.Linear(300, 100, bias=False)
        self.head.weight = self.embed.weight
        self.half = torch.nn.Linear(30, 20).to(torch.bfloat16)
        self.norm = torch.nn.BatchNorm1d(300)
        whole = torch.randn(40, 50)
        self.left = torch.nn.Parameter(whole[:, :25])
        self.right = torch.nn.Parameter(whole[:, 25:], requires_grad=False)
        self.register_buffer("mask", torch.ones(7, 3, dtype=torch.bool).t())
        self.register_buffer("empty", torch.empty(0))

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.embed(x)))


# What comes back


def test_all_tensors_are_the_same_objects_with_the_same_bits(stand: Stand) -> None:
    net = Net().eval()
    named = dict(net.named_parameters())
    before = frozen([*net.parameters(), net.mask, net.norm.running_mean])
    x = torch.arange(10)
    result = net(x).detach().clone()
    handle = kept(stand, net)
    size_bytes = handle.bytes
    for _ in range(3):
        handle.park()
        assert handle.parked and handle.bytes == size_bytes
        assert {size_of(one) for one in net.parameters()} == {size_of(net.mask)} == {0}
        handle.unpark()
        assert not handle.parked and handle.bytes == size_bytes
        assert_same(before)
    assert all(one is named[name] for name, one in net.named_parameters())
    assert net.head.weight is net.embed.weight
    assert torch.equal(net(x), result)
    assert [one.requires_grad for one in (net.left, net.right)] == [True, False]
    assert stand.released == 3


def test_what_shares_a_storage_is_moved_once_and_stays_shared(stand: Stand) -> None:
    net = Net()
    alias = net.left.detach()  # nobody has told of this one
    handle = kept(stand, net)
    handle.park()
    assert stand.out_bytes == handle.bytes
    shared = [100 * 300 * 4, 40 * 50 * 4, (30 * 20 + 20) * 2, 4 * 300 * 4 + 8, 7 * 3]
    assert handle.bytes == sum(shared)
    handle.unpark()
    with torch.no_grad():
        net.left[0, 0] = 77
    assert alias[0, 0] == 77
    assert net.left.untyped_storage().data_ptr() == net.right.untyped_storage().data_ptr()


def test_training_goes_on(stand: Stand) -> None:
    def train(handle: Offload | None) -> list[Any]:
        torch.manual_seed(1)
        net = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.BatchNorm1d(30), torch.nn.Linear(30, 1))
        moves = kept(stand, net) if handle is None else handle
        for _ in range(4):
            net.zero_grad()
            net(torch.randn(16, 40)).square().mean().backward()
            with torch.no_grad():
                for one in net.parameters():
                    one.sub_(one.grad, alpha=0.1)
            moves.park()
            moves.unpark()
        return [*net.parameters(), *net.buffers()]

    nothing = kept(stand, torch.ones(1))
    for one, other in zip(train(None), train(nothing), strict=True):
        assert torch.equal(one, other)


def test_a_tensor_goes_with_all_of_its_storage(stand: Stand) -> None:
    """Also where it is a view that is gone at once."""
    whole = torch.arange(1000.0)
    handle = kept(stand, whole[10:20], torch.ones(3))
    handle.park()
    assert handle.bytes == 4000 and size_of(whole) == 0
    handle.unpark()
    whole.data.add_(1)
    handle.park()
    handle.unpark()
    assert whole.tolist() == [n + 1 for n in range(1000)]


def test_what_is_no_memory_of_a_gpu_stays() -> None:
    net = Net()
    handle = gpu.offload(net)  # there is no GPU here
    assert (handle.bytes, handle.host_bytes) == (0, 0)
    before = frozen(list(net.parameters()))
    handle.park()
    assert_same(before)
    handle.unpark()


# What fails


@pytest.mark.parametrize("after", [0, 1, 3])
def test_too_little_memory_leaves_it_parked(stand: Stand, after: int) -> None:
    net = Net()
    before = frozen(list(net.parameters()))
    handle = kept(stand, net)
    handle.park()
    stand.fails_after = after
    with pytest.raises(torch.OutOfMemoryError):
        handle.unpark()
    assert handle.parked and {size_of(one) for one in net.parameters()} == {0}
    assert stand.released == 2
    stand.fails_after = None
    handle.unpark()
    assert_same(before)


def test_a_copy_back_that_fails_leaves_it_parked(stand: Stand) -> None:
    net = Net()
    before = frozen(list(net.parameters()))
    handle = kept(stand, net)
    handle.park()
    stand.fails_copy = True
    with pytest.raises(RuntimeError, match="an error of CUDA"):
        handle.unpark()
    assert handle.parked and {size_of(one) for one in net.parameters()} == {0}
    stand.fails_copy = False
    handle.unpark()
    assert_same(before)


def test_what_cannot_be_pinned_says_so() -> None:
    stand = Stand(room_bytes=3 * MIB)
    net = torch.nn.Linear(2048, 1024, bias=False)
    text = r"8 MiB of host memory could not be pinned .*\(CUDA error: out of memory\): offload less"
    with pytest.raises(CannotPin, match=text):
        kept(stand, net)
    assert stand.unpinned == 1


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (list, TypeError, "at least one"),
        (lambda: [{"a": torch.ones(1)}], TypeError, "not dict: give it each"),
        (lambda: [torch.frombuffer(bytearray(8), dtype=torch.uint8)], ValueError, "another library's"),
        (lambda: [torch.ones(2, 2).to_sparse()], ValueError, "of layout torch.sparse_coo cannot"),
    ],
)
def test_what_cannot_be_offloaded_is_refused(
    stand: Stand, make: Any, error: type[Exception], text: str
) -> None:
    weights = make()
    with pytest.raises(error, match=text):
        kept(stand, *weights)


# Host memory


def test_what_is_pinned_are_powers_of_two_and_little_more_than_needed(stand: Stand) -> None:
    sizes = [300 * MIB + 5, 2**30 * 3 + 7, 1, 0]
    for size in sizes:
        pieces = gpumemory._powers(size)
        assert all(piece & (piece - 1) == 0 for piece in pieces)
        assert size <= sum(pieces) < size + MIB
    net = torch.nn.Linear(1000, 1500)
    assert kept(stand, net).host_bytes == stand.pinned_bytes == 6 * MIB


def test_it_is_given_up_with_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_runtime", object())
    monkeypatch.setattr(Cuda, "moves", lambda *_: True)
    monkeypatch.setattr(
        Cuda, "pinned_empty", lambda _, size_bytes: torch.empty(size_bytes, dtype=torch.uint8)
    )
    net, cache = torch.nn.Linear(10, 10), torch.ones(1000)
    gpu.offload(net, cache)
    (handle,) = gpu.registered()
    del net
    gc.collect()
    assert gpu.registered() == [handle]
    del cache
    gc.collect()
    assert gpu.registered() == []


def test_so_it_is_while_parked(stand: Stand) -> None:
    net = torch.nn.Linear(10, 10)
    handle = kept(stand, net)
    handle.park()
    del net
    gc.collect()
    assert (handle.parked, handle.bytes, handle.host_bytes) == (False, 0, 0)
    handle.unpark()


def test_outside_of_a_worker_nothing_is_registered() -> None:
    gpu.offload(torch.nn.Linear(2, 2))
    assert gpu.registered() == []


# Imports


def test_it_can_be_imported_without_torch() -> None:
    code = """
import sys
import warmd
assert "warmd.gpu" not in sys.modules
warmd.gpu.registered()
assert "torch" not in sys.modules and "msgpack" not in sys.modules
sys.modules["torch"] = None
try:
    warmd.gpu.offload(object())
except ImportError as error:
    assert "torch" in str(error)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert "gpu" in dir(warmd)
