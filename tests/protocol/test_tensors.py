"""Tensors come back bit for bit, as views where there is something to look at; the rest is refused."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import msgpack
import numpy as np
import pytest

from tests.protocol import faketorch
from warmd.protocol.described import Foreign
from warmd.protocol.tensors import TENSOR_CODE, decode, describe
from warmd.protocol.values import Unpackable, pack, unpack

BODY = msgpack.packb(["float32", [2, 3]])
DATA = np.arange(6, dtype="f4").tobytes()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", faketorch.module())


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


def carried(tensor: Any) -> tuple[bytes, bytearray]:
    described = describe(tensor)
    assert described is not None and described.code == TENSOR_CODE
    room = bytearray(b"\xa5" * described.nbytes)
    described.copy_into(memoryview(room))
    return described.description, room


ARRAYS = [
    np.array(2.5),
    np.zeros((0, 3), "f4"),
    np.arange(24.0, dtype="f4").reshape(2, 3, 4).transpose(2, 0, 1),
    np.arange(10, dtype="i2")[::3],
    np.array([True, False]),
    np.array([1 - 2j]),
]


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_a_tensor_comes_back(array: np.ndarray) -> None:
    got = unpack(pack({"deep": [faketorch.Tensor(array)]}))["deep"][0]
    assert type(got) is faketorch.Tensor
    assert (got.array.dtype, got.array.shape, got.tolist()) == (array.dtype, array.shape, array.tolist())
    assert got.array.flags.writeable and got.array.flags.c_contiguous
    description, room = carried(faketorch.Tensor(array))
    assert decode(description, memoryview(room)).tolist() == array.tolist()


@pytest.mark.usefixtures("fake")
def test_a_tensor_is_in_the_memory_given_if_that_is_writable() -> None:
    room = bytearray(DATA)
    with memoryview(room) as lent:
        tensor = decode(BODY, lent)
    tensor.array[0, 0] = 7
    assert np.frombuffer(room, "f4")[0] == 7
    copied = decode(BODY, memoryview(room).toreadonly())
    copied.array[0, 0] = 8
    assert np.frombuffer(room, "f4")[0] == 7


@pytest.mark.usefixtures("fake")
def test_memory_that_is_not_aligned_is_not_used_as_it_is() -> None:
    tensor = faketorch.Tensor(np.arange(6, dtype="f4").reshape(3, 2).T)
    described = describe(tensor)
    room = memoryview(bytearray(described.nbytes + 1))[1:]
    described.copy_into(room)
    got = decode(described.description, room)
    assert got.tolist() == tensor.tolist()
    assert got.array.flags.aligned


def made(**facts: Any) -> faketorch.Tensor:
    tensor = faketorch.Tensor(np.zeros(1))
    for name, fact in facts.items():
        setattr(tensor, name, fact)
    return tensor


class Parameter(faketorch.Tensor):
    pass


class Masked(faketorch.Tensor):
    pass


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (made(requires_grad=True), "tensor that requires grad (send .detach())"),
        (made(is_nested=True), "nested tensor (send .unbind()"),
        (made(layout="torch.sparse_coo"), "tensor of layout sparse_coo (send .to_dense())"),
        (made(is_quantized=True), "quantized tensor (send .dequantize()"),
        (made(device=types.SimpleNamespace(type="meta")), "meta tensor"),
        (Parameter(np.zeros(1)), "Parameter, a subclass of torch.Tensor (send .detach())"),
        (Masked(np.zeros(1)), "Masked, a subclass of torch.Tensor (send .as_subclass(torch.Tensor))"),
        (faketorch.Tensor(np.zeros(1, "f2").astype("M8[s]")), "tensor of dtype datetime64[s]"),
    ],
)
def test_refusals_name_the_remedy(tensor: faketorch.Tensor, text: str) -> None:
    with pytest.raises(Unpackable) as caught:
        pack([tensor], "input")
    assert str(caught.value).startswith(f"input[0]: {text}")


class Cuda:
    type = "cuda"

    def __str__(self) -> str:
        return "cuda:0"


@pytest.mark.usefixtures("fake")
def test_a_tensor_of_another_device_is_refused() -> None:
    with pytest.raises(TypeError, match=r"tensor on cuda:0 \(send \.cpu\(\)\)"):
        describe(made(device=Cuda()))


def test_torch_that_is_being_imported_has_no_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert describe(faketorch.Tensor(1)) is None
    assert describe(1) is None


@pytest.mark.usefixtures("fake")
def test_what_this_torch_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match="torch 0 does not know bfloat16: upgrade it"):
        decode(msgpack.packb(["bfloat16", [1]]), memoryview(b"12"))


HOSTILE = [
    (b"", b""),
    (b"\xc1", b""),
    (msgpack.packb(["float32"]), b""),
    (msgpack.packb({"float32": [1]}), b""),
    (msgpack.packb(["float31", [1]]), b"1234"),
    (msgpack.packb(["load", [1]]), b"1234"),
    (msgpack.packb([["float32"], [1]]), b"1234"),
    (msgpack.packb(["float32", 1]), b"1234"),
    (msgpack.packb(["float32", [True]]), b"1234"),
    (msgpack.packb(["float32", [-1, -1]]), b"1234"),
    (msgpack.packb(["float32", [1]]), b"123"),
    (msgpack.packb(["float32", [2**62, 4]]), b""),
    (msgpack.packb(["float32", [1] * 65]), b"1234"),
]


@pytest.mark.usefixtures("missing")
@pytest.mark.parametrize(("description", "data"), HOSTILE)
def test_hostile_halves_raise_value_error(description: bytes, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(description, memoryview(data))


@pytest.mark.usefixtures("missing")
def test_a_tensor_passes_through_where_torch_is_missing() -> None:
    body = msgpack.packb(msgpack.ExtType(TENSOR_CODE, len(BODY).to_bytes(4, "little") + BODY + DATA))
    got = unpack(body)
    assert type(got) is Foreign
    assert repr(got) == "<torch.Tensor of float32 and shape [2, 3], 24 bytes: install torch here to use it>"
    assert pack(got) == body
    assert carried(got) == (BODY, DATA)


def test_packing_never_imports_a_library() -> None:
    code = (
        "import sys\n"
        "from warmd.protocol.values import pack, unpack\n"
        "unpack(pack({'a': (1, {2}, 1j)}))\n"
        "try: pack(object())\n"
        "except TypeError: pass\n"
        "assert not {'torch', 'pyarrow', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
