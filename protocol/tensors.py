"""torch tensors of the CPU as msgpack ext types, without torch being a dependency.

A tensor is a description and data, laid out as `protocol.described` says:

    description         msgpack array [dtype, shape]
    data                the elements in C order, little-endian

`dtype` is torch's name without the prefix (`"float32"`, `"bfloat16"`).  Strides do not survive the
trip, and neither would a gradient: a tensor that requires one is refused.

torch is never imported to pack: a value can only be a tensor if somebody imported it already.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from typing import Any

import msgpack

from warmd.protocol.described import Described, Foreign, elements
from warmd.protocol.errors import quoted

TENSOR_CODE = 7

_ITEM_BYTES = {
    "bool": 1,
    **dict.fromkeys(("uint8", "int8", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2"), 1),
    **dict.fromkeys(("float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"), 1),
    **dict.fromkeys(("uint16", "int16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("uint32", "int32", "float32", "complex32"), 4),
    **dict.fromkeys(("uint64", "int64", "float64", "complex64"), 8),
    "complex128": 16,
}
_MAX_DIMENSIONS = 64


def describe(value: object) -> Described | None:
    """The halves of a tensor; None for anything else.

    Raises TypeError, with the remedy, for a tensor that cannot travel: of another device, without
    plain data of its own, with a gradient, of a subclass.
    """
    if isinstance(value, Foreign) and value.code == TENSOR_CODE:
        return value.described()
    tensor_class: Any = getattr(sys.modules.get("torch"), "Tensor", None)
    if not isinstance(tensor_class, type) or not isinstance(value, tensor_class):
        return None
    if type(value) is not tensor_class:
        raise TypeError(_subclass_problem(type(value).__qualname__))
    tensor: Any = value
    problem = _problem(tensor)
    if problem:
        raise TypeError(problem)
    name = _name_of(tensor.dtype)
    if name not in _ITEM_BYTES:
        raise TypeError(f"tensor of dtype {name}")
    shape = list(tensor.shape)
    nbytes = math.prod(shape) * _ITEM_BYTES[name]
    return Described(TENSOR_CODE, msgpack.packb([name, shape]), nbytes, partial(_copy, tensor))


def decode(description: bytes | memoryview, data: memoryview) -> Any:
    """The tensor of these halves, in the memory of `data`, which it keeps alive.

    A copy if that is read-only: torch knows no such tensors.  Where torch is not installed it is a
    `Foreign`.  Raises ValueError or TypeError.
    """
    name, shape = _checked(description, len(data))
    try:
        import torch
    except ImportError:
        what = f"torch.Tensor of {name} and shape {shape}"
        return Foreign(TENSOR_CODE, bytes(description), bytes(data), what, "torch")
    if not hasattr(torch, name):
        raise ValueError(f"torch {torch.__version__} does not know {name}: upgrade it")
    try:
        return _made(torch, name, shape, data)
    except Exception as error:  # torch raises RuntimeError for most, TypeError for too large numbers
        raise ValueError(f"not a tensor: {type(error).__name__}: {error}") from error


def _made(torch: Any, name: str, shape: list[int], data: memoryview) -> Any:
    dtype = getattr(torch, name)
    if not len(data):
        return torch.empty(shape, dtype=dtype, device="cpu")
    # frombuffer() keeps the memoryview, but not from being released: so it gets one of its own.
    flat = torch.frombuffer(memoryview(bytearray(data) if data.readonly else data), dtype=torch.uint8)
    if flat.data_ptr() % _ITEM_BYTES[name]:
        flat = flat.clone()  # torch's kernels crash on elements that are not aligned
    return flat.view(dtype).view(shape)


def _copy(tensor: Any, room: memoryview) -> None:
    import torch

    if not len(room):
        return
    flat = torch.frombuffer(room, dtype=torch.uint8)
    if tensor.is_contiguous() or flat.data_ptr() % tensor.element_size():
        plain = tensor.resolve_conj().resolve_neg().contiguous()
        # Not view(-1): it leaves a single element the step that it had.
        flat.copy_(plain.as_strided((plain.numel(),), (1,)).view(torch.uint8))
    else:
        flat.view(tensor.dtype).view(tensor.shape).copy_(tensor)


def _name_of(thing: object) -> str:
    """What torch calls a dtype or a layout, without the prefix."""
    return str(thing).removeprefix("torch.")


def _subclass_problem(name: str) -> str:
    remedy = ".detach()" if name == "Parameter" else ".as_subclass(torch.Tensor)"
    return f"{name}, a subclass of torch.Tensor (send {remedy})"


def _problem(tensor: Any) -> str:
    """Why a tensor cannot travel; empty if it can."""
    if tensor.requires_grad:
        return "tensor that requires grad (send .detach())"
    if tensor.is_nested:
        return "nested tensor (send .unbind(), the tensors in it)"
    if _name_of(tensor.layout) != "strided":
        return f"tensor of layout {_name_of(tensor.layout)} (send .to_dense())"
    if tensor.is_quantized:
        return "quantized tensor (send .dequantize(), or .int_repr() with its scale)"
    if tensor.device.type == "meta":
        return "meta tensor: it has a shape and no data"
    if tensor.device.type != "cpu":
        return f"tensor on {tensor.device} (send .cpu())"
    return ""


def _checked(description: bytes | memoryview, nbytes: int) -> tuple[str, list[int]]:
    name, shape = elements(description, 2)
    if type(name) is not str or name not in _ITEM_BYTES:
        raise ValueError(f"not a tensor's dtype: {quoted(name, 80)}")
    if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"not a shape: {quoted(shape, 80)}")
    if len(shape) > _MAX_DIMENSIONS or math.prod(shape) * _ITEM_BYTES[name] != nbytes:
        raise ValueError(f"a tensor of {name} and shape {quoted(shape, 80)} does not fit its data")
    return name, shape
