"""How numbers change along the rows, or along a column of times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from warmd.apps.data.engine import collect, pl
from warmd.apps.data.plain import dtypes, plain, records, said, unknown
from warmd.apps.data.tables import Table
from warmd.apps.options import positive

_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_LIMIT = 1000
_X = "x"


def trends(
    table: Table,
    *,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    per: str | None = None,
    every: str | int | None = None,
    limit: int = _LIMIT,
) -> dict[str, Any]:
    """The line through each numeric column by least squares, as its slope a row, or `per` (a "day")
    along the column `time`.

    `every` adds the means of so many rows, or of a stretch of time such as "1h" or "1d" (polars'
    notation), at most `limit` of them.  Raises ValueError.
    """
    along = _Along(table, time, per)
    names = [name for name in table.numbers(columns) if name != time or columns is not None]
    if not names:
        raise ValueError(f"{table.name!r} has no numeric column: {dtypes(table.frame.schema)}")
    found = {
        "table": table.name,
        "along": time or "row",
        "per": along.unit,
        "columns": _lines(along, names),
    }
    if every is not None:
        found["means"] = _means(along, names, every, positive("limit", limit))
    return found


class _Along:
    """What the numbers are seen along: the rows in their order, or a column of times."""

    def __init__(self, table: Table, time: str | None, per: str | None) -> None:
        self.table = table
        self.time = time
        if time is None:
            if per is not None:
                raise ValueError(f"the slope is per row: per={per!r} needs a column of times, as 'time'")
            self.unit = "row"
            return
        if not isinstance(table.dtype(time), pl.Date | pl.Datetime):
            raise ValueError(f"column {time!r} is {table.dtype(time)}: 'time' needs dates or times")
        self.unit = "day" if per is None else per
        if self.unit not in _UNIT_SECONDS:
            raise ValueError(unknown("unit", per, _UNIT_SECONDS))

    def with_x(self, names: Sequence[str]) -> pl.LazyFrame:
        """The columns, and beside them where each row is, in units since the first."""
        query = self.table.with_finite(names, () if self.time is None else (self.time,))
        if self.time is None:
            return query.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).cast(pl.Float64).alias(_X))
        moment = self.table.column(self.time).cast(pl.Datetime("us")).cast(pl.Int64)
        return query.with_columns(((moment - moment.min()) / (_UNIT_SECONDS[self.unit] * 1e6)).alias(_X))


def _lines(along: _Along, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    moments = collect(along.with_x(names).select(_moments(along.table.key(name)) for name in names)).row(0)
    return {name: plain(_line(**at)) for name, at in zip(names, moments, strict=True)}


def _moments(key: str) -> pl.Expr:
    both = pl.col(_X).is_not_null() & pl.col(key).is_not_null()
    x, y = pl.col(_X).filter(both), pl.col(key).filter(both)
    return pl.struct(
        count=both.sum(),
        x=x.mean(),
        y=y.mean(),
        variance=x.var(),
        covariance=pl.cov(x, y),
        correlation=pl.corr(x, y),
        reach=x.max() - x.min(),
    ).alias(key)


def _line(
    count: int, x: Any, y: Any, variance: Any, covariance: Any, correlation: Any, reach: Any
) -> dict[str, Any]:
    if count < 2 or not variance:
        return {"count": count, "slope": None, "intercept": None, "r_squared": None, "change": None}
    slope = covariance / variance
    return {
        "count": count,
        "slope": slope,
        "intercept": y - slope * x,
        "r_squared": correlation**2,
        "change": slope * reach,
    }


def _means(along: _Along, names: Sequence[str], every: str | int, limit: int) -> dict[str, Any]:
    table, query = along.table, along.with_x(names)
    means = [table.column(name).mean() for name in names]
    labels = {table.key(name): name for name in names}
    if along.time is None:
        rows = positive("every", every)
        place = pl.int_range(pl.len()) // rows * rows
        grouped = query.with_columns(place.alias(_X)).group_by(_X).agg(means).sort(_X)
        labels[_X] = "row"
    elif isinstance(every, str):
        key = table.key(along.time)
        labels[key] = along.time
        try:
            grouped = query.drop_nulls(key).sort(key).group_by_dynamic(key, every=every).agg(means)
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"every is {every[:40]!r}: {said(error)}") from error
    else:
        raise ValueError(f"every is {str(every)[:40]!r}: along a column of times it is as '1h' or '1d'")
    if len(set(labels.values())) < len(labels):
        raise ValueError("a column is called 'row', as the rows are in the means: leave it out by 'columns'")
    found = collect(grouped.head(limit + 1))
    found.columns = [labels[key] for key in found.columns]
    return records(found, limit)
