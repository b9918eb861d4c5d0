"""The session: its tables, and the actions on them."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from warmd.apps.actions import Actions
from warmd.apps.data.analyses import correlations, outliers, summary
from warmd.apps.data.engine import collect, pl
from warmd.apps.data.plain import dtypes, records, said, unknown
from warmd.apps.data.reading import name_of, read
from warmd.apps.data.tables import Table, Tables
from warmd.apps.data.trends import trends
from warmd.apps.options import did_you_mean, positive

ANALYSES = {"summary": summary, "correlations": correlations, "outliers": outliers, "trends": trends}
ROWS_LIMIT = 1000
_WRITES = ("alter", "create", "delete", "drop", "insert", "truncate", "update")
_FIRST_WORD = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(\w*)", re.DOTALL)


class Data(Actions):
    """Tables in memory: `load` them once, then `analyze`, `sql` and look at them as often as you like.

    `setup` takes what `load` takes, for a session that is to begin with a table.
    """

    def setup(self, config: Mapping[str, Any] | None = None) -> None:
        self._tables = Tables()
        if config:
            self.load(**config)

    def load(self, *, dataset: Any, name: str | None = None, **options: Any) -> dict[str, Any]:
        """Loads a file (Parquet, CSV, Arrow, JSON), a pyarrow table, a dict of columns or a list of rows.

        Options: `columns`, `limit` (rows), `format`, and of CSV `separator`, `header`, `null_values`.
        `name` is by default that of the file; a table of that name is replaced.
        """
        begun = time.monotonic()
        _check_options(read, options, "load")
        table = self._tables.keep(name_of(dataset) if name is None else name, read(dataset, **options))
        return {**_facts(table), "columns": dtypes(table.frame.schema), "seconds": time.monotonic() - begun}

    def analyze(self, *, type: str, table: str | None = None, **options: Any) -> dict[str, Any]:
        """The "summary", "correlations", "outliers" or "trends" of a table, by default the last loaded.

        `columns` chooses some; the other options are those of the functions in `analyses` and `trends`.
        """
        if type not in ANALYSES:
            raise ValueError(unknown("analysis", type, ANALYSES))
        _check_options(ANALYSES[type], options, type)
        begun = time.monotonic()
        found = ANALYSES[type](self._tables.get(table), **options)
        return {**found, "seconds": time.monotonic() - begun}

    def sql(
        self, *, query: str, limit: int | None = None, into: str | None = None, **form: Any
    ) -> Any:
        """The result of a SELECT over the session's tables.

        At most `limit` rows: 1,000 by default, with `as="arrow"`, which gives a pyarrow table, all.
        `into` keeps the result as a table instead, and gives its name and size.  Raises ValueError with
        what polars says.
        """
        if not isinstance(query, str):
            raise TypeError(f"the query must be text, not {type(query).__name__}")
        word = _FIRST_WORD.match(query)
        if word is not None and word[1].lower() in _WRITES:
            raise ValueError(f"{word[1]} changes tables, and sql only reads them: use 'into', load or drop")
        try:
            found = pl.SQLContext(self._tables.frames()).execute(query)
            if into is not None:
                return _facts(self._tables.keep(into, collect(found)))
            return _given(found, limit, form)
        except (pl.exceptions.PolarsError, OSError) as error:
            names = ", ".join(self._tables.frames()) or "none"
            raise ValueError(f"{said(error)} (tables: {names})") from error

    def head(self, *, table: str | None = None, limit: int = 10, **form: Any) -> Any:
        """The first `limit` rows; `as="arrow"` gives a pyarrow table."""
        frame = self._tables.get(table).frame
        return _given(frame.head(positive("limit", limit)).lazy(), limit, form)

    def sample(
        self, *, table: str | None = None, limit: int = 10, seed: int | None = None, **form: Any
    ) -> Any:
        """`limit` rows drawn by chance, none twice; the same `seed` draws the same."""
        frame = self._tables.get(table).frame
        drawn = frame.sample(min(positive("limit", limit), frame.height), seed=seed)
        return _given(drawn.lazy(), limit, form)

    def columns(self, *, table: str | None = None) -> dict[str, str]:
        """The columns of a table, and their types."""
        return dtypes(self._tables.get(table).frame.schema)

    def tables(self) -> list[dict[str, Any]]:
        """The tables with their sizes, the one last loaded at the end."""
        return [_facts(table) for table in self._tables]

    def drop(self, *, table: str) -> list[dict[str, Any]]:
        """Lets go of a table; gives those that are left."""
        self._tables.drop(table)
        return self.tables()


def _facts(table: Table) -> dict[str, Any]:
    return {
        "table": table.name,
        "rows": table.frame.height,
        "bytes": int(table.frame.estimated_size()),
    }


def _given(query: pl.LazyFrame, limit: int | None, form: Mapping[str, Any]) -> Any:
    kind = dict(form).pop("as", "json")
    if strange := set(form) - {"as"}:
        raise TypeError(unknown("option", min(strange), ("as", "limit", "table", "query", "into", "seed")))
    if limit is not None:
        positive("limit", limit)
    if kind == "arrow":
        return collect(query if limit is None else query.head(limit)).to_arrow()
    if kind != "json":
        raise ValueError(unknown("form (as)", kind, ("json", "arrow")))
    rows = ROWS_LIMIT if limit is None else limit
    return records(collect(query.head(rows + 1)), rows)


def _check_options(function: Any, options: Mapping[str, Any], what: str) -> None:
    """Raises TypeError for an option that the function does not take beside its first parameter."""
    names: Sequence[str] = list(inspect.signature(function).parameters)[1:]
    columns = options.get("columns")
    if columns is not None and not isinstance(columns, list | tuple):
        raise TypeError(f"columns is {str(columns)[:40]!r}: it must be a list of names")
    for name in options:
        if name not in names:
            raise TypeError(f"{what} has no option {str(name)[:40]!r}: {did_you_mean(name, names)}")
