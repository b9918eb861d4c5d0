"""What `warmd.gpu.offload` does to torch's modules and tensors; host memory stands in for the GPU's."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

import warmd
from warmd import gpu, gpumemory
from warmd.app import context
from warmd.gpu import CannotPin, Offload
from warmd.gpumemory import Cuda

torch: Any = pytest.importorskip("torch")
MIB = 2**20


class Stand(Cuda):
    """A GPU for tests: counts what is asked of it, and fails when told."""

    def __init__(self, room_bytes: int = 2**62) -> None:
        self.out_bytes = self.back_bytes = self.pinned_bytes = 0
        self.released = self.unpinned = 0
        self.room_bytes = room_bytes
        """What may be pinned."""
        self.fails_after: int | None = None
        """So many storages get memory, and then none."""
        self.fails_copy = False

    def moves(self, tensor: Any) -> bool:
        return str(tensor.device) == "cpu"

    def pinned_empty(self, size_bytes: int) -> Any:
        if self.pinned_bytes + size_bytes > self.room_bytes:
            raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")
        self.pinned_bytes += size_bytes
        return torch.full((size_bytes,), 0xA5, dtype=torch.uint8)

    def resize(self, storage: Any, size_bytes: int) -> None:
        if size_bytes and self.fails_after is not None:
            if not self.fails_after:
                raise torch.OutOfMemoryError("tried to allocate")
            self.fails_after -= 1
        super().resize(storage, size_bytes)
        if size_bytes:
            gpumemory.as_bytes(storage).fill_(0x5A)

    def copy_out(self, host: Sequence[Any], storage: Any) -> None:
        if self.fails_copy:
            raise RuntimeError("an error of CUDA")
        self.out_bytes += storage.nbytes()
        super().copy_out(host, storage)

    def copy_back(self, host: Sequence[Any], storage: Any) -> None:
        if self.fails_copy:
            raise RuntimeError("an error of CUDA")
        self.back_bytes += storage.nbytes()
        super().copy_back(host, storage)

    def wait(self, storages: Any) -> None: ...

    def release(self) -> None:
        self.released += 1

    def unpin(self) -> None:
        self.unpinned += 1


@pytest.fixture
def stand() -> Stand:
    return Stand()


def kept(stand: Stand, *weights: Any, **options: Any) -> Offload:
    return Offload(weights, cuda=stand, **options)


def frozen(tensors: Sequence[Any]) -> list[Any]:
    return [(one, one.detach().clone(), one.stride(), one.storage_offset()) for one in tensors]


def assert_same(before: list[Any]) -> None:
    for tensor, copy, stride, offset in before:
        assert torch.equal(tensor.detach().view(torch.uint8), copy.view(torch.uint8))
        assert (tensor.stride(), tensor.storage_offset()) == (stride, offset)


def size_of(tensor: Any) -> int:
    return int(tensor.untyped_storage().nbytes())


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


# What is copied


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


def test_what_cannot_be_pinned_says_so() -> None:
    stand = Stand(room_bytes=3 * MIB)
    net = torch.nn.Linear(2048, 1024, bias=False)
    text = r"8 MiB of host memory could not be pinned .*\(CUDA error: out of memory\): offload less"
    with pytest.raises(CannotPin, match=text):
        kept(stand, net)
    assert stand.unpinned == 1


def test_where_it_cannot_grow_it_is_not_parked(stand: Stand, large: tuple[Any, Offload]) -> None:
    net, handle = large
    net.more = torch.nn.Linear(2048, 256)
    stand.room_bytes = 0
    with pytest.raises(CannotPin):
        handle.park()
    assert not handle.parked and size_of(net.weight) == 2 * MIB
    del net.more
    assert moved(stand, handle, net) == 0


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
