"""Real tensors: bit for bit, of each dtype and layout, in memory that outlives its owner's interest."""

from __future__ import annotations

import gc
import math
import mmap
import subprocess
import sys
import tracemalloc
import warnings
from typing import Any

import hypothesis.strategies as st
import msgpack
import pytest
from hypothesis import given

from warmd.protocol import tensors
from warmd.protocol.tensors import TENSOR_CODE, decode, describe
from warmd.protocol.values import Unpackable, pack, unpack

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support")

DTYPES = [name for name in tensors._ITEM_BYTES if hasattr(torch, name)]


def of_bytes(data: bytes, name: str, shape: list[int]) -> Any:
    if not data:
        return torch.empty(shape, dtype=getattr(torch, name))
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(getattr(torch, name)).view(shape)


def to_bytes(tensor: Any) -> bytes:
    plain = tensor.clone(memory_format=torch.contiguous_format)
    return bytes(plain.view(-1).view(torch.uint8).tolist()) if tensor.numel() else b""


@st.composite
def any_tensor(draw: st.DrawFn) -> Any:
    """Random bits, signalling NaNs among them, with axes in any order and steps over some elements."""
    name = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    size = math.prod(shape) * tensors._ITEM_BYTES[name]
    data = draw(st.binary(min_size=size, max_size=size))
    tensor = of_bytes(bytes(byte & 1 for byte in data) if name == "bool" else data, name, shape)
    tensor = tensor.permute(draw(st.permutations(range(len(shape)))))
    return tensor[(..., *(slice(None, None, draw(st.sampled_from([1, 2]))) for _ in shape))]


def carried(tensor: Any) -> tuple[bytes, bytearray]:
    described = describe(tensor)
    assert described is not None and described.code == TENSOR_CODE
    room = bytearray(b"\xa5" * described.nbytes)
    described.copy_into(memoryview(room))
    return described.description, room


def assert_same(got: Any, sent: Any) -> None:
    assert type(got) is torch.Tensor
    assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
    assert got.is_contiguous() and not got.requires_grad
    assert to_bytes(got) == to_bytes(sent)


@given(any_tensor())
def test_tensors_come_back_bit_for_bit(tensor: Any) -> None:
    assert_same(unpack(pack({"deep": [tensor]}))["deep"][0], tensor)
    description, room = carried(tensor)
    assert_same(decode(description, memoryview(room)), tensor)
    assert to_bytes(tensor) == bytes(room)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "int16"])
def test_each_pattern_of_16_bits_comes_back(name: str) -> None:
    data = b"".join(n.to_bytes(2, "little") for n in range(2**16))
    assert carried(of_bytes(data, name, [2**16]))[1] == data
    assert carried(of_bytes(data, name, [2**8, 2**8]).t())[1] == to_bytes(
        of_bytes(data, "int16", [2**8, 2**8]).t()
    )


@pytest.mark.parametrize("name", DTYPES)
def test_each_dtype_of_any_layout(name: str) -> None:
    size = tensors._ITEM_BYTES[name]
    tensor = of_bytes(bytes(range(2)) * 12 * size, name, [4, 6]).t()[::2]
    assert_same(unpack(pack(tensor)), tensor)


def test_conjugated_and_negated_views_arrive_as_what_they_show() -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    assert unpack(pack(tensor.conj())).tolist() == [1 - 2j, 3 + 4j]
    assert unpack(pack(tensor.conj().imag)).tolist() == [-2, 4]


def test_expanded_scalars_and_channels_last() -> None:
    for tensor in (
        torch.tensor(7).expand(3, 4),
        torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.tensor(2.5),
        torch.empty(0, 3),
        torch.rand(4, 6)[1:3, 2:5],
    ):
        assert_same(unpack(pack(tensor)), tensor)


def test_a_tensor_that_came_is_writable_and_may_learn() -> None:
    tensor = unpack(pack(torch.ones(3)))
    tensor += 1
    (tensor.requires_grad_() * 2).sum().backward()
    assert tensor.grad.tolist() == [2, 2, 2]


def test_a_view_is_in_the_memory_given() -> None:
    description, room = carried(torch.arange(3.0))
    decode(description, memoryview(room))[0] = 7
    assert torch.frombuffer(room, dtype=torch.float32)[0] == 7


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [[], [3], [2, 3]])
def test_memory_that_is_not_aligned_will_do(name: str, shape: list[int]) -> None:
    size = tensors._ITEM_BYTES[name]
    tensor = of_bytes(b"\1" * size * math.prod(shape), name, shape)
    described = describe(tensor.t() if shape == [2, 3] else tensor)
    room = memoryview(bytearray(described.nbytes + 1))[1:]
    described.copy_into(room)
    assert bytes(room) == to_bytes(tensor)
    got = decode(described.description, room)
    assert got.data_ptr() % size == 0
    assert_same(got.clone(), tensor.t() if shape == [2, 3] else tensor)


def test_what_is_read_only_is_copied_without_a_warning() -> None:
    description, room = carried(torch.arange(3.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = decode(description, memoryview(bytes(room)))
    tensor[0] = 7
    assert tensor.tolist() == [7, 1, 2]


def test_a_view_keeps_its_memory() -> None:
    description, room = carried(torch.arange(3.0))
    memory = mmap.mmap(-1, 4096)
    memory[: len(room)] = bytes(room)
    with memoryview(memory) as whole, whole[: len(room)] as lent:
        tensor = decode(description, lent)
    with pytest.raises(BufferError):
        memory.close()
    assert tensor.tolist() == [0, 1, 2]
    del tensor
    gc.collect()
    memory.close()


def test_nothing_holds_the_room_after_the_copy() -> None:
    described = describe(torch.ones(4, 4)[:, ::2])
    room = memoryview(bytearray(described.nbytes))
    described.copy_into(room)
    room.release()


def test_packing_a_tensor_copies_it_no_more_often_than_msgpack_does() -> None:
    tensor = torch.ones(1000, 1000).t()
    tracemalloc.start()
    try:
        pack(tensor)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3.5 * tensor.numel() * 4


def test_the_default_device_is_not_asked() -> None:
    with torch.device("meta"):
        assert unpack(pack(torch.empty(0, 3, device="cpu"))).device.type == "cpu"
        assert unpack(pack(torch.ones(3, device="cpu"))).tolist() == [1, 1, 1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: torch.ones(1, requires_grad=True), "tensor that requires grad (send .detach())"),
        (lambda: torch.ones(1, requires_grad=True) * 2, "tensor that requires grad (send .detach())"),
        (lambda: torch.nn.Parameter(torch.ones(1)), "Parameter, a subclass of torch.Tensor (send .detach())"),
        (lambda: torch.ones(2, 2).to_sparse(), "tensor of layout sparse_coo (send .to_dense())"),
        (lambda: torch.ones(2, 2).to_sparse_csr(), "tensor of layout sparse_csr (send .to_dense())"),
        (lambda: torch.ones(2, 2).to_mkldnn(), "tensor of layout _mkldnn (send .to_dense())"),
        (lambda: torch.ones(1, device="meta"), "meta tensor"),
        (lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), "nested tensor (send .unbind()"),
        (lambda: torch.quantize_per_tensor(torch.ones(1), 0.1, 0, torch.qint8), "quantized tensor"),
    ],
)  # fmt: skip
def test_refusals_name_the_remedy(make: Any, text: str) -> None:
    with pytest.raises(Unpackable) as caught:
        pack([make()], "input")
    assert str(caught.value).startswith(f"input[0]: {text}")


@pytest.mark.parametrize(
    "remedied",
    [
        lambda: torch.nn.Parameter(torch.ones(2)).detach(),
        lambda: (torch.ones(2, requires_grad=True) * 1).detach(),
        lambda: torch.ones(2).to_sparse().to_dense(),
        lambda: torch.nn.Parameter(torch.ones(2), requires_grad=False).as_subclass(torch.Tensor),
    ],
)
def test_the_remedies_help(remedied: Any) -> None:
    assert unpack(pack(remedied())).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("shape", "data"),
    [([2**62, 2**62, 0], b""), ([2**64 - 1, 0], b""), ([1], b"123"), ([1, 0], b"1234")],
)
def test_hostile_shapes_raise_value_error(shape: list[int], data: bytes) -> None:
    with pytest.raises(ValueError, match=r"tensor"):
        decode(msgpack.packb(["float32", shape]), memoryview(data))


def test_torch_is_imported_to_unpack_a_tensor() -> None:
    code = (
        "import sys\n"
        "from warmd.protocol.values import unpack\n"
        "assert 'torch' not in sys.modules\n"
        "assert unpack(bytes.fromhex(sys.argv[1])).tolist() == [1]\n"
    )
    subprocess.run([sys.executable, "-c", code, pack(torch.ones(1)).hex()], check=True, timeout=60)
