"""Many samples in several parts, and the answers to the parts as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warmd.apps.predict.engines import numpy


def length(data: Any) -> int | None:
    """How many samples there are; None for what is one, or cannot be parted."""
    if isinstance(data, Mapping):
        are_columns = all(isinstance(column, (list, tuple, numpy.ndarray)) for column in data.values())
        lengths = {len(column) for column in data.values()} if are_columns else set()
        return lengths.pop() if len(lengths) == 1 else None
    if isinstance(data, numpy.ndarray):
        return len(data) if data.ndim > 1 or (data.ndim == 1 and data.dtype.kind in "UT") else None
    if isinstance(data, (list, tuple)) and data and not isinstance(data[0], (int, float)):
        return len(data)
    return None


def part(data: Any, begin: int, end: int) -> Any:
    """Some of the samples of what has a `length`."""
    if isinstance(data, Mapping):
        return {name: column[begin:end] for name, column in data.items()}
    return data[begin:end]


def joined(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One answer, with all samples of the others in their order."""
    first = answers[0]
    if len(answers) == 1:
        return first
    return {name: _joined(name, [answer[name] for answer in answers]) for name in first}


def _joined(name: str, values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return joined(values)
    if isinstance(first, numpy.ndarray) and first.ndim:
        return numpy.concatenate(values)
    if name == "classes" or not isinstance(first, list):
        return first
    return [one for value in values for one in value]


def is_plain(data: Any) -> bool:
    """Whether the samples are as JSON has them: lists of numbers and texts, or named ones."""
    if isinstance(data, dict):
        return all(map(is_plain, data.values()))
    return data is None or isinstance(data, str | int | float | list | tuple)


def in_lists(answer: Any) -> Any:
    """The answer with lists in place of arrays, for JSON."""
    if isinstance(answer, dict):
        return {name: in_lists(value) for name, value in answer.items()}
    return answer.tolist() if isinstance(answer, numpy.ndarray | numpy.generic) else answer
