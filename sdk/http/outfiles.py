"""What of an output is a file, and how its bytes are made.

    bytes                       as they are; their type is told by their first bytes
    numpy arrays, torch tensors .npy: dtypes that numpy lacks as the next larger that it has
    pyarrow tables, batches     Arrow's IPC file format
    `warmd.File`                a copy of it

Also where the gateway has no numpy, torch or pyarrow, and gets their values as stand-ins.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
from functools import partial
from typing import Any, BinaryIO

import msgpack

from warmd.http.contents import is_type
from warmd.http.files import Content
from warmd.protocol.arrow import ARROW_CODE
from warmd.protocol.buffers import Array
from warmd.protocol.described import Foreign
from warmd.protocol.errors import quoted
from warmd.protocol.files import File

COPY_BYTES = 1024 * 1024
NPY = "application/x-npy"
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_ALIGNMENT = 64
_NUMPY_NAMES = {
    "bool": "|b1", "uint8": "|u1", "int8": "|i1", "uint16": "<u2", "int16": "<i2", "float16": "<f2",
    "uint32": "<u4", "int32": "<i4", "float32": "<f4", "uint64": "<u8", "int64": "<i8", "float64": "<f8",
    "complex64": "<c8", "complex128": "<c16",
}  # fmt: skip


def content_of(value: Any) -> Content | None:
    """The file that stands for a value; None for what is no file.

    Raises TypeError, with the remedy, for what would be one and cannot be written.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return Content(partial(_write, value), "", None)
    if isinstance(value, File):
        return _of_file(value)
    if isinstance(value, Array | Foreign):
        return _of_stand_in(value)
    library = type(value).__module__.partition(".")[0]
    if library == "numpy" and hasattr(value, "dtype"):
        return Content(partial(_save_array, value), "", NPY)
    if library == "torch" and hasattr(value, "dtype"):
        return Content(partial(_save_array, _numpy_of(value)), "", NPY)
    if library == "pyarrow" and hasattr(value, "schema"):
        return Content(partial(_save_table, value), "", "application/vnd.apache.arrow.file")
    return None


def _write(value: Any, sink: BinaryIO) -> None:
    sink.write(value)


def _of_file(file: File) -> Content:
    if file.content_type is not None and not is_type(file.content_type):
        raise TypeError(
            f"content_type: expected one such as image/png, got {quoted(file.content_type, 80)} for the file "
            f"{quoted(file.filename, 80)}; leave it out, and it is told by the name"
        )
    return Content(partial(_copy, file.path), file.filename, file.content_type)


def _copy(path: str, sink: BinaryIO) -> None:
    """Not a link: what the app writes into its file later must not change what was told."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TypeError(
            f"no file at {quoted(path, 200)}: {error.strerror}; it has to stay until the gateway has read it"
        ) from None
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TypeError(f"no file at {quoted(path, 200)}: it is not a regular one")
        shutil.copyfileobj(file, sink, COPY_BYTES)


def _save_array(array: Any, sink: BinaryIO) -> None:
    import numpy as np

    np.save(sink, array, allow_pickle=False)


def _numpy_of(tensor: Any) -> Any:
    import torch

    plain = tensor.detach().resolve_conj().resolve_neg()
    if str(plain.dtype).removeprefix("torch.") not in _NUMPY_NAMES:
        plain = plain.to(torch.complex64 if plain.is_complex() else torch.float32)
    return plain.numpy()


def _save_table(table: Any, sink: BinaryIO) -> None:
    import pyarrow as pa

    with pa.PythonFile(sink, mode="w") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write(table)


def _of_stand_in(value: Array | Foreign) -> Content:
    if isinstance(value, Array):
        if not isinstance(value.dtype, str):
            raise TypeError("an array of structures; install numpy where the gateway runs")
        return _npy(value.dtype, value.shape, value.order == "F", value.data)
    if value.code == ARROW_CODE:
        # Its data is an IPC stream already.
        return Content(partial(_write, value.data), "", "application/vnd.apache.arrow.stream")
    name, shape = msgpack.unpackb(value.description)
    if name not in _NUMPY_NAMES:
        raise TypeError(f"{value.what}; install torch where the gateway runs")
    return _npy(_NUMPY_NAMES[name], tuple(shape), False, value.data)


def _npy(dtype: str, shape: tuple[int, ...], is_fortran: bool, data: bytes) -> Content:
    """Without numpy."""
    told = repr({"descr": dtype, "fortran_order": is_fortran, "shape": shape})
    missing = -(len(_NPY_MAGIC) + 2 + len(told) + 1) % _NPY_ALIGNMENT
    header = told.encode() + b" " * missing + b"\n"

    def write(sink: BinaryIO) -> None:
        sink.write(_NPY_MAGIC + struct.pack("<H", len(header)) + header)
        sink.write(data)

    return Content(write, "", NPY)
