"""As much of torch as packing a tensor needs, made of numpy, for where torch is not installed."""

from __future__ import annotations

import types
from typing import Any

import numpy as np

NAMES = ("bool", "uint8", "int16", "float32", "float64", "complex128")


class Named(str):
    """A dtype or layout: torch writes them with its own name before them."""

    def __str__(self) -> str:
        return "torch." + str.__str__(self)


class Tensor:
    requires_grad = is_nested = is_quantized = False
    layout = Named("strided")
    device = types.SimpleNamespace(type="cpu")

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)

    @property
    def dtype(self) -> Named:
        return Named(self.array.dtype.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def view(self, form: Any) -> Tensor:
        if isinstance(form, Named):
            return Tensor(self.array.view(str.__str__(form)))
        return Tensor(self.array.reshape(form))

    def as_strided(self, shape: Any, strides: Any) -> Tensor:
        assert self.is_contiguous() and strides == (1,)
        return self.view(shape)

    def copy_(self, other: Tensor) -> None:
        assert self.dtype == other.dtype and not self.array.ctypes.data % self.element_size()
        self.array[...] = other.array

    def clone(self) -> Tensor:
        return Tensor(self.array.copy())

    def contiguous(self) -> Tensor:
        return Tensor(np.ascontiguousarray(self.array).reshape(self.shape))

    def resolve_conj(self) -> Tensor:
        return self

    resolve_neg = resolve_conj

    def is_contiguous(self) -> bool:
        return bool(self.array.flags.c_contiguous)

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)

    def element_size(self) -> int:
        return int(self.array.itemsize)

    def numel(self) -> int:
        return int(self.array.size)

    def tolist(self) -> Any:
        return self.array.tolist()


def frombuffer(buffer: Any, dtype: Named) -> Tensor:
    if not len(buffer) or memoryview(buffer).readonly:
        raise ValueError("torch refuses an empty buffer, and warns of one that is read-only")
    return Tensor(np.frombuffer(buffer, str.__str__(dtype)))


def empty(shape: Any, dtype: Named, device: str) -> Tensor:
    assert device == "cpu"
    return Tensor(np.empty(shape, str.__str__(dtype)))


def module() -> types.ModuleType:
    """What `import torch` is to find in sys.modules."""
    torch: Any = types.ModuleType("torch")
    torch.__version__ = "0"
    torch.Tensor, torch.frombuffer, torch.empty = Tensor, frombuffer, empty
    for name in NAMES:
        setattr(torch, name, Named(name))
    return torch  # type: ignore[no-any-return]
