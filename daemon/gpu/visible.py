"""Which GPUs `CUDA_VISIBLE_DEVICES` leaves, as CUDA reads it.

Entries are numbers, or UUIDs of which the beginning is enough; the first that names no GPU ends the list,
and so does one that was named before.  Numbers are NVML's, by PCI bus, only where CUDA counts so too: it
does with `CUDA_DEVICE_ORDER=PCI_BUS_ID`, and otherwise puts the fastest first, which where all GPUs are
of one kind comes to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from warmd.daemon.gpu.driver import GpuError

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"


def visible(environ: Mapping[str, str], ids: Sequence[str], names: Sequence[str]) -> list[int]:
    """The positions in `ids`, in the order in which CUDA numbers them.

    Raises GpuError for MIG devices, and for numbers that may mean another GPU than they seem to.
    """
    named = environ.get(VISIBLE)
    if named is None:
        return list(range(len(ids)))
    found: list[int] = []
    for entry in map(str.strip, named.split(",")):
        if entry.isdecimal() and len(set(names)) > 1 and environ.get(ORDER) != "PCI_BUS_ID":
            text = f"{VISIBLE}={named!r} counts GPUs of several kinds, which CUDA puts in an order of its own"
            raise GpuError("unavailable", f"{text}: set {ORDER}=PCI_BUS_ID, or give UUIDs (`nvidia-smi -L`)")
        position = _position(entry, ids)
        if position is None or position in found:
            break
        found.append(position)
    return found


def _position(entry: str, ids: Sequence[str]) -> int | None:
    """Raises GpuError."""
    if entry.isdecimal():
        return int(entry) if int(entry) < len(ids) else None
    if entry.upper().startswith("MIG-"):
        raise GpuError("unsupported", f"{VISIBLE} names a MIG device ({entry}): give whole GPUs")
    if not entry.upper().startswith("GPU-"):
        return None
    matching = [index for index, id in enumerate(ids) if id.lower().startswith(entry.lower())]
    return matching[0] if len(matching) == 1 else None
