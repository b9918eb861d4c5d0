"""The decorator of everything that is passed on and never changed: messages, events, effects.

For type checkers it is a frozen dataclass.  At run time it is a plain one with slots: freezing
makes each of the eight records of a warm call a microsecond more expensive, and the import of this
package by milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make `cls` a record of its annotated fields."""
    return dataclass(slots=True)(cls)
