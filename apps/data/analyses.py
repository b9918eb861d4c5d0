"""What `analyze` computes: each function takes a table and gives plain values.

Numbers are computed without nulls, NaN and infinities, which are counted beside.  What is not defined,
as the deviation of one value or the correlation of a constant, is None.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from warmd.apps.data.engine import collect, pl
from warmd.apps.data.plain import dtypes, plain, unknown
from warmd.apps.data.tables import Table
from warmd.apps.options import positive

_FREQUENT = 5


def summary(table: Table, *, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Each column in short, by its kind: a number, a time, a text or other value that has few forms."""
    chosen = list(columns) if columns is not None else table.frame.columns
    facts = {name: {"type": str(table.dtype(name))} | _counts(table, name) for name in chosen}
    for name, more in _of_numbers(table, [name for name in chosen if table.dtype(name).is_numeric()]).items():
        facts[name] |= more
    for name in chosen:
        dtype = table.dtype(name)
        if dtype.is_temporal():
            facts[name] |= _of_times(table, name)
        elif not dtype.is_numeric() and not dtype.is_nested() and dtype != pl.Object:
            facts[name] |= _of_forms(table, name)
    return {"table": table.name, "rows": table.frame.height, "columns": plain(facts)}


def _counts(table: Table, name: str) -> dict[str, int]:
    nulls = table.frame[name].null_count()
    odd = table.non_finite.get(name)
    counts = {"count": table.frame.height - nulls - (odd or 0), "nulls": nulls}
    return counts if odd is None else {**counts, "non_finite": odd}


def _of_numbers(table: Table, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    if not names:
        return {}
    described = {"mean": pl.Expr.mean, "std": pl.Expr.std, "min": pl.Expr.min, "max": pl.Expr.max}
    query = table.with_finite(names)
    parts = [
        collect(query.select(table.column(name).pipe(compute) for name in names)).row(0)
        for compute in described.values()
    ]
    facts = {}
    for position, (name, quartiles) in enumerate(zip(names, table.quartiles(names), strict=True)):
        facts[name] = {fact: part[position] for fact, part in zip(described, parts, strict=True)}
        facts[name] |= quartiles._asdict()
    return facts


def _of_times(table: Table, name: str) -> dict[str, Any]:
    column: Any = table.frame[name]
    least, most = column.min(), column.max()
    ends = {"min": least, "max": most}
    if least is None or not isinstance(table.dtype(name), pl.Date | pl.Datetime):
        return ends
    return {**ends, "range_seconds": most - least}


def _of_forms(table: Table, name: str) -> dict[str, Any]:
    values = table.keyed([name]).select(value=table.column(name)).drop_nulls()
    groups = values.group_by("value").agg(count=pl.len())
    top = pl.struct("value", "count").top_k_by(["count", "value"], _FREQUENT, reverse=[False, True])
    distinct, frequent = collect(groups.select(distinct=pl.len(), top=top.implode())).row(0)
    return {"distinct": distinct, "most_frequent": frequent or []}


def correlations(
    table: Table, *, columns: Sequence[str] | None = None, method: str = "pearson"
) -> dict[str, Any]:
    """The matrix of the numeric columns; a row counts for two columns where both have a number.

    `method` is "pearson", or "spearman" for the ranks.  Raises ValueError without two numeric columns.
    """
    if method not in ("pearson", "spearman"):
        raise ValueError(unknown("method", method, ("pearson", "spearman")))
    names = table.numbers(columns)
    if len(names) < 2:
        raise ValueError(
            f"correlations need two numeric columns, and {table.name!r} has {names or 'none'}: "
            f"its columns are {dtypes(table.frame.schema)}"
        )
    corr: Any = pl.corr
    pairs = list(itertools.combinations(range(len(names)), 2))
    query = table.with_finite(names)
    found = collect(
        query.select(
            corr(table.column(names[one]), table.column(names[other]), method=method).alias(f"{one} {other}")
            for one, other in pairs
        )
    ).row(0)
    ends = [(table.column(name).min(), table.column(name).max()) for name in names]
    constant = collect(query.select(least == most for least, most in ends)).row(0)
    matrix: list[list[Any]] = [[None] * len(names) for _ in names]
    for position, is_constant in enumerate(constant):
        matrix[position][position] = None if is_constant in (True, None) else 1.0
    for (one, other), value in zip(pairs, found, strict=True):
        matrix[one][other] = matrix[other][one] = None if constant[one] or constant[other] else plain(value)
    ranked = [(names[one], names[other], matrix[one][other]) for one, other in pairs]
    ranked = sorted((pair for pair in ranked if pair[2] is not None), key=lambda pair: -abs(pair[2]))
    return {
        "table": table.name,
        "method": method,
        "columns": names,
        "matrix": matrix,
        "strongest": [{"columns": [a, b], "correlation": value} for a, b, value in ranked[:10]],
    }


def outliers(
    table: Table,
    *,
    columns: Sequence[str] | None = None,
    method: str = "iqr",
    threshold: float | None = None,
    examples: int = 5,
) -> dict[str, Any]:
    """How many values of each numeric column lie outside of its bounds, and the `examples` farthest.

    "iqr" sets the bounds `threshold` (1.5) times the distance of the quartiles beyond these, "zscore"
    `threshold` (3) standard deviations from the mean.  Raises ValueError without a numeric column.
    """
    defaults = {"iqr": 1.5, "zscore": 3.0}
    if method not in defaults:
        raise ValueError(unknown("method", method, defaults))
    factor = defaults[method] if threshold is None else threshold
    if not isinstance(factor, int | float) or not factor > 0:
        raise ValueError(f"threshold is {str(factor)[:40]}: it must be a number above 0")
    names = table.numbers(columns)
    if not names:
        raise ValueError(f"{table.name!r} has no numeric column: {dtypes(table.frame.schema)}")
    positive("examples", examples)
    found = {}
    for name, (lower, upper) in _bounds(table, names, method, factor).items():
        found[name] = {"lower": lower, "upper": upper, **_outside(table, name, lower, upper, examples)}
    return {"table": table.name, "method": method, "threshold": factor, "columns": plain(found)}


def _bounds(table: Table, names: Sequence[str], method: str, factor: float) -> dict[str, tuple[Any, Any]]:
    query = table.with_finite(names)
    if method == "iqr":
        ends: list[Any] = [(quartiles.q25, quartiles.q75) for quartiles in table.quartiles(names)]
        reach = [None if low is None else factor * (high - low) for low, high in ends]
    else:
        means = collect(query.select(table.column(name).mean() for name in names)).row(0)
        stds = collect(query.select(table.column(name).std() for name in names)).row(0)
        ends = [(mean, mean) for mean in means]
        reach = [None if std is None else factor * std for std in stds]
    return {
        name: (None, None) if far is None else (low - far, high + far)
        for name, (low, high), far in zip(names, ends, reach, strict=True)
    }


def _outside(table: Table, name: str, lower: Any, upper: Any, examples: int) -> dict[str, Any]:
    if lower is None:
        return {"count": 0, "share": 0.0, "examples": []}
    value = table.column(name)
    outside = table.with_finite([name]).with_row_index("row").filter((value < lower) | (value > upper))
    distance = pl.max_horizontal(lower - value, value - upper)
    farthest = pl.struct("row", value=value).top_k_by(distance, examples)
    count, shown = collect(outside.select(count=pl.len(), shown=farthest.implode())).row(0)
    present = table.frame.height - table.frame[name].null_count() - table.non_finite.get(name, 0)
    return {"count": count, "share": count / present, "examples": shown or []}
