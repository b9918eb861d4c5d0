"""The calls to CUDA's driver by which memory is shared; a stand-in for its library takes them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from warmd import gpuipc

HANDLE = bytes(range(64))
ADDRESS = 0x7F00_0000_1000
UUID = bytes.fromhex("0123456789abcdef0123456789abcdef")


class Library:
    """Notes what it is asked; `fails` names a function and its error."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.contexts: list[int] = []
        self.fails: dict[str, int] = {}
        self.opened = b""
        self.closed = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.fails:
                return self.fails[name]
            getattr(self, f"_{name.removesuffix('_v2')}", lambda *_: None)(*arguments)
            return 0

        if name.startswith("_"):
            raise AttributeError(name)
        return call

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:
        context._obj.value = 1000 + device.value

    def _cuDeviceGet(self, device: Any, ordinal: Any) -> None:
        device._obj.value = ordinal.value

    def _cuDeviceGetUuid(self, found: Any, _device: Any) -> None:
        ctypes.memmove(found._obj, UUID, len(UUID))

    def _cuCtxPushCurrent(self, context: Any) -> None:
        self.contexts.append(context.value)

    def _cuCtxPopCurrent(self, _context: Any) -> None:
        self.contexts.pop()

    def _cuMemAlloc(self, pointer: Any, size: Any) -> None:
        assert self.contexts == [1000] and size.value == 4096
        pointer._obj.value = ADDRESS

    def _cuIpcGetMemHandle(self, handle: Any, pointer: Any) -> None:
        assert self.contexts == [1000] and pointer.value == ADDRESS
        ctypes.memmove(ctypes.addressof(handle._obj), HANDLE, len(HANDLE))

    def _cuIpcOpenMemHandle(self, pointer: Any, handle: Any, flags: Any) -> None:
        assert self.contexts == [1003] and flags.value == 1
        self.opened, pointer._obj.value = bytes(handle), ADDRESS

    def _cuIpcCloseMemHandle(self, pointer: Any) -> None:
        self.closed = pointer.value

    def _cuGetErrorName(self, _code: Any, text: Any) -> None:
        text._obj.value = b"CUDA_ERROR_OUT_OF_MEMORY"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    found = Library()
    monkeypatch.setattr(gpuipc, "_library", lambda: found)
    gpuipc._primary_context.cache_clear()
    yield found
    gpuipc._primary_context.cache_clear()


def test_what_is_allocated_is_exported_and_opened_by_its_handle(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch: Any = pytest.importorskip("torch")
    handle = gpuipc.Held().allocate(4096)
    assert bytes.fromhex(handle) == HANDLE
    made: list[Any] = []
    monkeypatch.setattr(torch, "as_tensor", lambda data, device: made.append((data, device)))
    gpuipc.Mapped().open(handle, 4096, SimpleNamespace(index=3))
    assert library.opened == HANDLE
    ((data, _),) = made
    told = data.__cuda_array_interface__
    assert (told["shape"], told["typestr"], told["data"]) == ((4096,), "|u1", (ADDRESS, False))
    tensor = SimpleNamespace(device=SimpleNamespace(index=3), data_ptr=lambda: ADDRESS)
    gpuipc.Mapped().close(tensor)
    assert library.closed == ADDRESS and not library.contexts


def test_a_gpu_is_named_as_cuda_visible_devices_takes_it(library: Library) -> None:
    assert gpuipc._uuid(0) == "GPU-01234567-89ab-cdef-0123-456789abcdef"
    assert library.calls[0] == "cuInit"


def test_errors_have_the_drivers_names_and_leave_no_context(library: Library) -> None:
    held = gpuipc.Held()
    library.fails["cuMemAlloc_v2"] = 2
    with pytest.raises(RuntimeError, match=r"cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY \(2\)"):
        held.allocate(4096)
    assert not library.contexts


def test_without_a_driver_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpuipc, "LIBRARY", "libnothing.so.1")
    gpuipc._library.cache_clear()
    with pytest.raises(RuntimeError, match="CUDA's driver cannot be loaded: libnothing"):
        gpuipc._uuid(0)
