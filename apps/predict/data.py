"""What a call brings, as the samples that a model takes, and what it gives, as values that travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warmd.apps.predict.engines import numpy


def is_text(data: Any) -> bool:
    """A text, or a flat list of texts."""
    if isinstance(data, numpy.ndarray):
        return bool(data.ndim == 1 and data.dtype.kind in "UT")
    if isinstance(data, (list, tuple)):
        return bool(data) and all(isinstance(one, str) for one in data)
    return isinstance(data, str)


def texts_of(data: Any) -> list[str]:
    """The texts of what `is_text`."""
    return [data] if isinstance(data, str) else [str(one) for one in data]


def columns_of(data: Any) -> dict[str, Any] | None:
    """The columns of a dict, a list of dicts or a pyarrow table; None for anything else.

    Raises ValueError for dicts in a list that have not the same keys.
    """
    if hasattr(data, "column_names") and hasattr(data, "to_pydict"):
        return dict(data.to_pydict())
    if isinstance(data, Mapping):
        return dict(data)
    if not isinstance(data, (list, tuple)) or not data or not isinstance(data[0], Mapping):
        return None
    for at, row in enumerate(data):
        if not isinstance(row, Mapping) or row.keys() != data[0].keys():
            raise ValueError(f"data[{at}] has not the same keys as data[0] ({', '.join(map(str, data[0]))})")
    return {key: [row[key] for row in data] for key in data[0]}


def array_of(data: Any, name: str = "data") -> Any:
    """An array of numbers or, where there are texts among them, of objects.

    Raises ValueError for rows of different lengths, TypeError for what is no array at all.
    """
    if isinstance(data, numpy.ndarray):
        return data
    if type(data).__module__.partition(".")[0] == "torch":
        return data.numpy(force=True)
    if not isinstance(data, (list, tuple, int, float, bool, str, numpy.generic)):
        raise TypeError(f"{name} must be numbers, texts, rows or columns, not {type(data).__name__}")
    try:
        array = numpy.asarray(data)
    except ValueError:
        raise ValueError(_ragged(data, name)) from None
    return numpy.asarray(data, dtype=object) if array.dtype.kind in "US" else array


def plain(values: Any) -> Any:
    """Numbers stay arrays; texts and objects become lists, sparse matrices full ones."""
    if hasattr(values, "toarray"):
        values = values.toarray()
    if isinstance(values, numpy.ndarray) and values.dtype.kind not in "biufc":
        return values.tolist()
    if isinstance(values, (list, tuple)):
        return [plain(one) for one in values]
    return values


def _ragged(data: Any, name: str) -> str:
    lengths = [len(row) if isinstance(row, (list, tuple, numpy.ndarray)) else 0 for row in data]
    other = next((at for at, length in enumerate(lengths) if length != lengths[0]), None)
    if other is None:
        return f"{name} cannot be made an array: its rows have parts of different lengths"
    return f"{name}[{other}] has {lengths[other]} values, {name}[0] has {lengths[0]}"
