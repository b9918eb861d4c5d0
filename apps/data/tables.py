"""The tables of a session, by name, and which of their columns are what."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from warmd.apps.data.engine import collect, pl
from warmd.apps.data.plain import unknown

_SAFE = (pl.Float64, pl.Int8, pl.Int16, pl.Int32, pl.Int64)


class Quartiles(NamedTuple):
    q25: float | None
    median: float | None
    q75: float | None


class Table:
    """One table, and what is found out about it only once.

    Queries know its columns by keys: polars takes names such as "*" or "^a.*$" for patterns, and others
    may be those of a query's own columns.
    """

    def __init__(self, name: str, frame: pl.DataFrame) -> None:
        self.name = name
        self.frame = frame
        self._keys = {column: f"c{position}" for position, column in enumerate(frame.columns)}
        self._keyed = frame.clone()
        self._keyed.columns = list(self._keys.values())
        self._quartiles: dict[str, Quartiles] = {}

    def numbers(self, columns: Sequence[str] | None = None) -> list[str]:
        """The numeric columns, or those of `columns`, which then must be numeric.  Raises ValueError."""
        if columns is None:
            return [name for name, dtype in self.frame.schema.items() if dtype.is_numeric()]
        for name in columns:
            if not self.dtype(name).is_numeric():
                raise ValueError(f"column {name!r} of {self.name!r} is {self.dtype(name)}: not a number")
        return list(columns)

    def dtype(self, column: str) -> pl.DataType:
        """Raises ValueError for a column that there is not."""
        if column not in self.frame.schema:
            raise ValueError(unknown(f"column of {self.name!r}", column, self.frame.columns))
        return self.frame.schema[column]

    def key(self, column: str) -> str:
        """What a query knows the column by."""
        return self._keys[column]

    def column(self, column: str) -> pl.Expr:
        return pl.col(self._keys[column])

    def keyed(self, columns: Iterable[str]) -> pl.LazyFrame:
        """These columns, by their keys."""
        return self._keyed.lazy().select(list(dict.fromkeys(self._keys[name] for name in columns)))

    def with_finite(self, columns: Sequence[str], others: Iterable[str] = ()) -> pl.LazyFrame:
        """These columns by their keys, as they are best to compute with: NaN and infinities are null, and
        what may overflow is a float."""
        return self.keyed([*columns, *others]).with_columns(self._finite(name) for name in columns)

    @functools.cached_property
    def non_finite(self) -> dict[str, int]:
        """How many NaN and infinities each column of floats has."""
        floats = [name for name, dtype in self.frame.schema.items() if dtype.is_float()]
        counts = self.keyed(floats).select((~self.column(name).is_finite()).sum() for name in floats)
        return dict(zip(floats, collect(counts).row(0), strict=True)) if floats else {}

    def quartiles(self, columns: Sequence[str]) -> list[Quartiles]:
        """Those of each of these columns, None where it has no number.

        A column has to be sorted for them, which is most of the work of a summary: it is done once.
        """
        if missing := [name for name in columns if name not in self._quartiles]:
            # All three at once cost one sort, each by itself one more.
            wanted = (self.column(name).quantile([0.25, 0.5, 0.75], "linear") for name in missing)
            found = collect(self.with_finite(missing).select(wanted)).row(0)
            for name, values in zip(missing, found, strict=True):
                self._quartiles[name] = Quartiles(*(values or (None, None, None)))
        return [self._quartiles[name] for name in columns]

    def _finite(self, name: str) -> pl.Expr:
        column, dtype = self.column(name), self.frame.schema[name]
        if self.non_finite.get(name):
            column = pl.when(column.is_finite()).then(column)
        return column if dtype in _SAFE else column.cast(pl.Float64)


class Tables:
    """All tables of a session; the one loaded last is meant where none is named."""

    def __init__(self) -> None:
        self._by_name: dict[str, Table] = {}

    def __iter__(self) -> Any:
        return iter(self._by_name.values())

    def keep(self, name: Any, frame: pl.DataFrame) -> Table:
        """Have `frame` as the table `name`, in place of one that was called so.  Raises ValueError."""
        if not isinstance(name, str) or not name:
            raise ValueError(f"a table's name must be text, not {str(name)[:40]!r}")
        self._by_name.pop(name, None)
        table = self._by_name[name] = Table(name, frame)
        return table

    def get(self, name: str | None = None) -> Table:
        """Raises ValueError where there is none."""
        if not self._by_name:
            raise ValueError('no table is loaded: {"action": "load", "dataset": path} loads one')
        if name is None:
            return next(reversed(self._by_name.values()))
        if name not in self._by_name:
            raise ValueError(unknown("table", name, self._by_name))
        return self._by_name[name]

    def drop(self, name: str) -> None:
        del self._by_name[self.get(name).name]

    def frames(self) -> dict[str, pl.DataFrame]:
        return {name: table.frame for name, table in self._by_name.items()}
