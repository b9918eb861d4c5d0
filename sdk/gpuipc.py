"""GPU memory that one process allocates and others map, through CUDA's own calls (IPC).

Only the standard library, and `libcuda.so.1`, which is wherever there is a driver: the process that holds
the memory imports neither torch nor warmd, and an app's own environment needs no package for this.  torch
comes in on the users' side alone, by `__cuda_array_interface__`, which it documents.

What was exported must stay until nobody maps it: to free it before is undefined (CUDA's documentation of
`cuIpcOpenMemHandle`).  So it is never freed, but goes with the process that holds it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from functools import cache
from typing import Any

LIBRARY = "libcuda.so.1"
_LAZY_PEER_ACCESS = 1
_UUID_BYTES = 16
_HANDLE_BYTES = 64


class _Handle(ctypes.Structure):
    _fields_ = (("reserved", ctypes.c_ubyte * _HANDLE_BYTES),)


class Held:
    """The holder's half.  What it allocates goes with the process.  `_argument`: nothing; it uses the first
    GPU that is visible."""

    def __init__(self, _argument: str = "") -> None:
        self._context = _primary_context(0)

    def allocate(self, size_bytes: int) -> str:
        """What others open it by.  Raises RuntimeError."""
        pointer, handle = ctypes.c_uint64(), _Handle()
        with _current(self._context):
            _call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size_bytes))
            _call("cuIpcGetMemHandle", ctypes.byref(handle), pointer)
        return bytes(handle).hex()


class Mapped:
    """The users' half, of one process."""

    file = __file__
    """What the holder loads its half from."""
    argument = ""
    linger_seconds = 5.0
    """After the last user, for the next to come; nor has the driver at once unmapped what was that one's."""

    def place(self, device: Any) -> tuple[str, Any]:
        """A GPU's UUID, and how torch calls it.  Raises RuntimeError, ValueError."""
        import torch

        try:
            torch.cuda.init()
        except (AssertionError, RuntimeError) as error:  # torch was built without CUDA, or finds no driver
            raise RuntimeError(f"weights are shared on a GPU, and torch finds none here: {error}") from error
        found = torch.device("cuda" if device is None else device)
        if found.type != "cuda":
            raise ValueError(f"memory can be shared on a GPU, not on {found}")
        index = torch.cuda.current_device() if found.index is None else found.index
        return _uuid(index), torch.device("cuda", index)

    def open(self, handle: str, size_bytes: int, place: Any) -> Any:
        """Its bytes, as a tensor.  It stays mapped until the process ends, or `close`.

        Raises RuntimeError.
        """
        import torch

        pointer = ctypes.c_uint64()
        exported = _Handle.from_buffer_copy(bytes.fromhex(handle))
        with _current(_primary_context(place.index)):
            _call("cuIpcOpenMemHandle_v2", ctypes.byref(pointer), exported, ctypes.c_uint(_LAZY_PEER_ACCESS))
        return torch.as_tensor(_Bytes(pointer.value or 0, size_bytes), device=place)

    def close(self, tensor: Any) -> None:
        """Unmap it; nobody may use it any more.  Raises RuntimeError."""
        with _current(_primary_context(tensor.device.index)):
            _call("cuIpcCloseMemHandle", ctypes.c_uint64(tensor.data_ptr()))

    def release(self) -> None:
        """Give GPU memory back that torch keeps for later: that of what was copied."""
        import torch

        torch.cuda.empty_cache()

    def wait(self, place: Any) -> None:
        """Until all that was begun there is done."""
        import torch

        torch.cuda.synchronize(place)


class _Bytes:
    """What torch makes a tensor of."""

    def __init__(self, pointer: int, size_bytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size_bytes,),
            "typestr": "|u1",
            "data": (pointer, False),
            "strides": None,
            "version": 3,
        }


@cache
def _library() -> Any:
    """Raises RuntimeError."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise RuntimeError(f"CUDA's driver cannot be loaded: {error}") from error


@cache
def _primary_context(ordinal: int) -> Any:
    """Of the GPU that this process numbers so: the one that torch uses, too.  Raises RuntimeError."""
    context = ctypes.c_void_p()
    _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), _device(ordinal))
    return context


def _device(ordinal: int) -> Any:
    device = ctypes.c_int()
    _call("cuInit", ctypes.c_uint(0))
    _call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
    return device


def _uuid(ordinal: int) -> str:
    """As `CUDA_VISIBLE_DEVICES` takes it."""
    found = (ctypes.c_ubyte * _UUID_BYTES)()
    _call("cuDeviceGetUuid", ctypes.byref(found), _device(ordinal))
    digits = bytes(found).hex()
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "GPU-" + "-".join(parts)


@contextlib.contextmanager
def _current(context: Any) -> Iterator[None]:
    """Whatever context the thread has is its own again afterwards."""
    _call("cuCtxPushCurrent_v2", context)
    try:
        yield
    finally:
        _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


def _call(name: str, *arguments: Any) -> None:
    """Raises RuntimeError with the driver's own name for what went wrong."""
    result = getattr(_library(), name)(*arguments)
    if result:
        text = ctypes.c_char_p()
        _library().cuGetErrorName(ctypes.c_int(result), ctypes.byref(text))
        raise RuntimeError(f"{name}: {(text.value or b'error').decode()} ({result})")
