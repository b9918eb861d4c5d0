"""For apps on GPUs: weights that leave GPU memory while their session is idle, and come back.

    self.model = load().to("cuda")
    warmd.gpu.offload(self.model)         # in `setup`; that is all

What is moved is a storage: the memory that a tensor, its views and all that shares it look into.  It is
shrunk to nothing, and later grown and filled again.  Tensors stay the objects that they are, with shape and
strides, and every alias is valid again: tied weights, views, what an optimizer or a closure holds.  To give
each tensor a new `.data` instead would leave behind all aliases that nobody has named, and these would keep
the memory.  A storage comes back at another address: what has kept the number itself (CUDA graphs, also
those of `torch.compile(mode="reduce-overhead")`) must not be used afterwards.  The driver's checkpoint,
which the daemon uses where nothing is offloaded, keeps addresses.

While it is parked nobody may compute with it, nor read it.

What is in host memory already is not copied out again.  Tensors count writes (`_version`), but not all:
those through `.data`, by other libraries' kernels, or by batch normalisation to its own statistics, leave
the counter as it is.  So there are also sums over all bytes, computed on the GPU.  A change for which these
come out alike is not seen; with `always_copy` nothing depends on that.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from warmd.app import context
from warmd.gpumemory import CannotPin as CannotPin
from warmd.gpumemory import Cuda, HostMemory, Storage, Tensor
from warmd.gpushare import ShareError as ShareError
from warmd.gpushare import share as share

exclusions: list[str] = []
"""Why the driver cannot checkpoint this process, for what knows a reason to add it."""

SMALL_BYTES = 2**20
"""What is not larger is copied without looking whether it has changed."""

_registered: list[Offload] = []


def offload(*weights: Any, always_copy: bool = False) -> Offload:
    """Keeps the weights of torch modules, and tensors, where the daemon can have them moved.

    To be called once they are on the GPU: host memory for them is pinned now, which takes some 0.8 s for each
    GiB, and is free again when all of them are garbage.  Of modules these are the parameters and buffers
    (no gradients); of a tensor its whole storage, also where it is a view.  What is in host memory is left
    there.  In a worker the daemon decides when they go; elsewhere the handle that is returned can be used.
    With `always_copy` they are copied out at each move, whether they look changed or not.

    Raises CannotPin where host memory is short, TypeError for what is no module and no tensor, and
    ValueError for a tensor whose memory is not its own.
    """
    handle = Offload(weights, always_copy)
    if context._runtime is not None:
        _registered.append(handle)
    return handle


def registered() -> list[Offload]:
    """What this worker's daemon can have moved."""
    for handle in list(_registered):
        handle._drop_if_garbage()  # the end of a tensor is told by nobody
    return list(_registered)


@dataclass(eq=False)
class _Kept:
    """One storage, and its copy in host memory."""

    reference: Any
    """A weak one, so that a storage which nobody needs can go."""
    size_bytes: int
    host: list[Tensor]
    storage: Storage | None = None
    """While it is parked."""
    copied: dict[weakref.ref[Any], int | None] | None = None
    """The modules' tensors that looked into it when it was copied, and their versions; None: it was not.

    A tensor has one such reference, so these are equal where they are the same.
    """
    sums: tuple[int, ...] = ()


@dataclass(eq=False)
class _Found:
    """A storage that has GPU memory now, and the tensors that look into it."""

    storage: Storage
    versions: dict[weakref.ref[Any], int | None] = field(default_factory=dict)


class Offload:
    """Weights that can be parked.  Not for use in several threads."""

    def __init__(self, weights: Sequence[Any], always_copy: bool = False, cuda: Cuda | None = None) -> None:
        _check(weights)
        self.parked = False
        self.always_copy = always_copy
        self._cuda = cuda or Cuda()
        self._host = HostMemory(self._cuda)
        self._kept: dict[int, _Kept] = {}
        """By the address of the storage, which is no other's while there is a weak reference to it."""
        this = weakref.ref(self)
        modules = [one for one in weights if _is_module(one)]
        self._modules = [weakref.ref(one, lambda _: _look(this)) for one in modules]
        tensors = [part for one in weights if not _is_module(one) for part in _tensors_of(one)]
        # Not the tensors: what was given may be a view that nobody holds for longer than the call.
        self._storages = [_weak(_storage_of(one)) for one in tensors if self._cuda.moves(one)]
        self._keep(self._find())

    @property
    def bytes(self) -> int:
        """How much GPU memory it frees, or has freed."""
        if self.parked:
            return sum(kept.size_bytes for kept in self._kept.values())
        return sum(one.storage.nbytes() for one in self._find().values())

    @property
    def host_bytes(self) -> int:
        """How much host memory is pinned for it."""
        return self._host.total_bytes

    def park(self) -> None:
        """Moves the weights to host memory.

        Where that raises (CannotPin, errors of CUDA) they are where they were.
        """
        if self.parked:
            return
        found = self._find()
        self._keep(found)
        storages = [one.storage for one in found.values()]
        self._cuda.wait(storages)
        self._copy_out(found)
        for address, one in found.items():
            self._kept[address].storage = one.storage
        self.parked = True
        for storage in storages:
            self._cuda.resize(storage, 0)
        self._cuda.release()

    def unpark(self) -> None:
        """Moves them back: all are as they were, bit for bit.

        Where that raises (torch.OutOfMemoryError) they are parked as before.
        """
        if not self.parked:
            return
        all = list(self._kept.values())
        try:
            for kept in all:
                self._cuda.resize(kept.storage, kept.size_bytes)
            for kept in all:
                self._cuda.copy_back(kept.host, kept.storage)
            self._cuda.wait([kept.storage for kept in all])
        except BaseException:
            for kept in all:
                self._cuda.resize(kept.storage, 0)
            self._cuda.release()
            raise
        self.parked = False
        for kept in all:
            kept.storage = None

    def _find(self) -> dict[int, _Found]:
        """By address.  Raises ValueError for memory that is not torch's to free."""
        found: dict[int, _Found] = {}
        for storage in filter(None, map(_strong, self._storages)):
            found[storage._cdata] = _Found(storage)
        for module in self._modules:
            for tensor in filter(self._cuda.moves, _tensors_of(module())):
                storage = _storage_of(tensor)
                one = found.setdefault(storage._cdata, _Found(storage))
                one.versions[weakref.ref(tensor)] = None if tensor.is_inference() else tensor._version
        # One that is empty may be parked by another handle.
        return {address: one for address, one in found.items() if one.storage.nbytes()}

    def _keep(self, found: dict[int, _Found]) -> None:
        """Have host memory for all of these, and for nothing else.  Raises CannotPin."""
        for address, kept in list(self._kept.items()):
            now = found.get(address)
            if now is None or now.storage.nbytes() != kept.size_bytes:
                self._host.give(self._kept.pop(address).host)
        new = [one.storage for address, one in found.items() if address not in self._kept]
        self._host.grow_to_take([storage.nbytes() for storage in new])
        for storage in new:
            host = self._host.take(storage.nbytes())
            self._kept[storage._cdata] = _Kept(_weak(storage), storage.nbytes(), host)

    def _copy_out(self, found: dict[int, _Found]) -> None:
        """Returns when all that has changed is in host memory."""
        sums = {} if self.always_copy else self._sums(found)
        copied: list[tuple[_Kept, _Found]] = []
        for address, one in found.items():
            kept = self._kept[address]
            told = sums.get(address)
            if told is not None and told == kept.sums and one.versions == kept.copied:
                continue
            kept.copied, kept.sums = None, told or ()
            self._cuda.copy_out(kept.host, one.storage)
            copied.append((kept, one))
        self._cuda.wait([one.storage for _, one in copied])
        for kept, one in copied:
            kept.copied = one.versions

    def _sums(self, found: dict[int, _Found]) -> dict[int, tuple[int, ...]]:
        large = {address: one.storage for address, one in found.items() if one.storage.nbytes() > SMALL_BYTES}
        try:
            return dict(zip(large, self._cuda.sums(list(large.values())), strict=True))
        except (RuntimeError, MemoryError):  # there is no memory left for it: then all is copied
            return {}

    def _drop_if_garbage(self) -> None:
        if any(module() is not None for module in self._modules):
            return
        if not all(storage.expired() for storage in self._storages):
            return
        self.parked = False
        self._kept.clear()
        self._host.clear()
        if self in _registered:
            _registered.remove(self)


def _weak(storage: Storage) -> Any:
    """A reference that does not keep its memory, but keeps others from its address."""
    from torch.multiprocessing.reductions import StorageWeakRef

    return StorageWeakRef(storage)


def _strong(reference: Any) -> Storage | None:
    import torch

    return torch.UntypedStorage._new_with_weak_ptr(reference.cdata)


def _storage_of(tensor: Tensor) -> Storage:
    try:
        storage = tensor.untyped_storage()
    except NotImplementedError as error:
        raise ValueError(f"a tensor of layout {tensor.layout} cannot be offloaded: {error}") from None
    if not storage.resizable():
        raise ValueError(
            f"the memory of a tensor of shape {tuple(tensor.shape)} is another library's or process's, and "
            "cannot be freed here: offload a clone of it"
        )
    return storage


def _look(handle: weakref.ref[Offload]) -> None:
    found = None if sys.is_finalizing() else handle()
    if found is not None:
        found._drop_if_garbage()


def _check(weights: Sequence[Any]) -> None:
    import torch

    if not weights:
        raise TypeError("offload() takes at least one torch module or tensor")
    for one in weights:
        if not isinstance(one, torch.nn.Module | torch.Tensor):
            raise TypeError(
                f"offload() takes torch modules and tensors, not {type(one).__name__}: give it each of those "
                "that are in there"
            )


def _is_module(weight: Any) -> bool:
    return hasattr(weight, "parameters")


def _tensors_of(weight: Any) -> Iterator[Tensor]:
    """The tensors with memory of their own that a module, or a tensor made of others, consists of."""
    if weight is None:
        return
    if _is_module(weight):
        for part in (*weight.parameters(), *weight.buffers()):
            yield from _tensors_of(part)
    elif hasattr(weight, "__tensor_flatten__"):
        for name in weight.__tensor_flatten__()[0]:
            yield from _tensors_of(getattr(weight, name))
    else:
        yield weight
