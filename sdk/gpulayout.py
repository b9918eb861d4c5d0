"""Tensors as one block of bytes and a description of it, which another process makes the same tensors of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from types import CodeType
from typing import Any, TypeAlias

Tensor: TypeAlias = Any
Tensors: TypeAlias = dict[str, Tensor]
Described: TypeAlias = list[list[Any]]
"""Of each tensor its name, dtype, shape, and where its bytes begin."""

ALIGNED_BYTES = 512


def tensors_of(made: Any) -> Tensors:
    """Those of a dict, or of a module's state.  Raises TypeError for what is neither."""
    import torch

    found = made.state_dict() if isinstance(made, torch.nn.Module) else made
    if not isinstance(found, Mapping):
        raise TypeError(f"a dict of tensors or a module is shared, not {type(made).__name__}")
    for name, one in found.items():
        if not isinstance(name, str) or type(one) not in (torch.Tensor, torch.nn.Parameter):
            raise TypeError(f"plain tensors are shared, by name: {name!r} is of {type(one).__name__}")
        if one.layout != torch.strided or one.is_quantized:
            raise TypeError(f"plain tensors are shared: {name!r} is sparse, or quantized by torch")
    return dict(found)


def layout(tensors: Tensors) -> tuple[int, Described]:
    """How many bytes they take, and where each lies; what is the same memory is there once."""
    placed: dict[tuple[Any, ...], int] = {}
    described: Described = []
    end = 0
    for name, one in tensors.items():
        alike = one.data_ptr(), one.dtype, tuple(one.shape), one.stride(), str(one.device)
        begin = placed.get(alike, end)
        described.append([name, str(one.dtype).removeprefix("torch."), list(one.shape), begin])
        if begin == end:
            placed[alike] = end
            end += -(-one.numel() * one.element_size() // ALIGNED_BYTES) * ALIGNED_BYTES
    return max(end, ALIGNED_BYTES), described


def views(whole: Tensor, described: Sequence[Sequence[Any]]) -> Tensors:
    """The tensors that `whole`, of bytes, consists of."""
    import torch

    found: Tensors = {}
    for name, dtype_name, shape, begin in described:
        dtype = getattr(torch, dtype_name)
        size_bytes = prod(shape) * dtype.itemsize
        part = whole[begin : begin + size_bytes] if size_bytes else whole[:0]
        found[name] = part.view(dtype).view(tuple(shape))
    return found


def fingerprint_of(make: Callable[..., Any]) -> str:
    """The same for the same function in another process; another one after an edit of its own lines."""
    while hasattr(make, "func"):  # functools.partial
        make = make.func
    code = getattr(make, "__code__", None)
    name = f"{getattr(make, '__module__', '')}.{getattr(make, '__qualname__', type(make).__qualname__)}"
    told = _told(code) if isinstance(code, CodeType) else ""
    return hashlib.sha256(f"{name}\0{told}".encode()).hexdigest()


def _told(constant: Any) -> str:
    """Without what is another one in each process: addresses, and the order of sets."""
    if isinstance(constant, CodeType):
        parts: Iterable[Any] = (constant.co_code.hex(), constant.co_names, *map(_told, constant.co_consts))
        return repr(tuple(parts))
    if isinstance(constant, frozenset):
        return repr(sorted(map(_told, constant)))
    if isinstance(constant, tuple):
        return repr(tuple(map(_told, constant)))
    return repr(constant)
