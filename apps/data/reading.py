"""Tables from files and from values.

What a file is, is known by its content where that tells, else by its name: a compressed CSV file is
one whatever it is called, but nothing in a CSV file says so.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from warmd.apps.data.engine import collect, pl
from warmd.apps.data.plain import said, unknown
from warmd.apps.options import positive

FORMATS = ("parquet", "csv", "tsv", "arrow", "arrow-stream", "ndjson", "json")
_SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow",
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json",
}  # fmt: skip
_MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow-stream"}
_BINARY = frozenset(_MAGIC.values())
_SEPARATORS = (",", "\t", ";", "|")
_SAMPLE_ROWS = 10_000
"""By which the types of a text file are guessed; where they turn out wrong, by all of it."""


def read(
    dataset: Any,
    *,
    format: str | None = None,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    separator: str | None = None,
    header: bool = True,
    null_values: Sequence[str] | None = None,
) -> pl.DataFrame:
    """The table of a file, or of a value: a pyarrow table, a dict of columns, a list of rows.

    `columns` and `limit` (rows) say what of it.  Raises OSError for a file that cannot be opened, and
    ValueError for one that is not what it seems, with what polars says.
    """
    if limit is not None:
        positive("limit", limit)
    if not isinstance(dataset, str | os.PathLike):
        query = _from_values(dataset).lazy()
        return collect(_chosen(query, columns, limit))
    path = _file(dataset)
    kind = format or _format_of(path)
    if kind not in FORMATS:
        raise ValueError(unknown("format", kind, FORMATS))
    text = {"separator": separator, "has_header": header, "null_values": null_values}
    try:
        try:
            return collect(_chosen(_scan(path, kind, text, _SAMPLE_ROWS), columns, limit))
        except pl.exceptions.ComputeError:
            if kind not in ("csv", "tsv", "ndjson"):
                raise
            return collect(_chosen(_scan(path, kind, text, None), columns, limit))
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} cannot be read as {kind}: {said(error)}") from error


def name_of(dataset: Any) -> str:
    """A name for the table that SQL takes without quotes: the file's, without its endings."""
    if not isinstance(dataset, str | os.PathLike):
        return "data"
    stem = re.sub(r"\W", "_", Path(dataset).name.partition(".")[0]) or "data"
    return f"_{stem}" if stem[0].isdigit() else stem


def _file(dataset: str | os.PathLike[str]) -> Path:
    path = Path(dataset).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name one file")
    if not path.exists():
        remedy = "" if path.is_absolute() else ": give an absolute path"
        raise FileNotFoundError(f"there is no file {path} (the working directory is {Path.cwd()}{remedy})")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    return path


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    named = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    with _opened(path) as file:
        head = file.read(4096)
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.startswith(b"FEA1"):
        raise ValueError(f"{path} is a Feather file of version 1: write it as version 2, which is Arrow IPC")
    if named in _BINARY:
        raise ValueError(f"{path} is named like a file of {named}, but its content is not that")
    if named == "json" or (named is None and head.lstrip()[:1] in (b"[", b"{")):
        return "ndjson" if _is_json(head.lstrip().partition(b"\n")[0], dict) else "json"
    return named or "csv"


def _opened(path: Path) -> io.BufferedIOBase:
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if is_gzip else path.open("rb")


def _is_json(text: bytes, kind: type) -> bool:
    try:
        return isinstance(json.loads(text), kind)
    except ValueError:
        return False


def _scan(path: Path, kind: str, text: Mapping[str, Any], sample_rows: int | None) -> pl.LazyFrame:
    if kind == "parquet":
        return pl.scan_parquet(path, glob=False)
    if kind == "arrow":
        return pl.scan_ipc(path, glob=False)
    if kind == "arrow-stream":
        return pl.read_ipc_stream(path).lazy()
    if kind in ("csv", "tsv"):
        options = {**text, "separator": text["separator"] or _separator(path, kind)}
        return pl.scan_csv(
            path, infer_schema_length=sample_rows, try_parse_dates=True, glob=False, **options
        )
    with _opened(path) as file:
        content = file.read()
    if kind == "ndjson":
        return pl.scan_ndjson(content, infer_schema_length=sample_rows)
    return pl.read_json(content, infer_schema_length=None).lazy()


def _separator(path: Path, kind: str) -> str:
    """The one that the first line has most of."""
    if kind == "tsv":
        return "\t"
    with _opened(path) as file:
        first = file.readline(64 * 1024).decode("utf-8", "replace")
    unquoted = re.sub(r'"[^"]*"', "", first)
    return max(_SEPARATORS, key=unquoted.count)


def _chosen(query: pl.LazyFrame, columns: Sequence[str] | None, limit: int | None) -> pl.LazyFrame:
    if columns is not None:
        known = query.collect_schema().names()
        for name in columns:
            if name not in known:
                raise ValueError(unknown("column", name, known))
        query = query.select(pl.selectors.by_name(*columns))
    return query if limit is None else query.head(limit)


def _from_values(values: Any) -> pl.DataFrame:
    kind = type(values)
    try:
        if str(kind.__module__).partition(".")[0] == "pyarrow":
            made = pl.from_arrow(values)
            return made if isinstance(made, pl.DataFrame) else made.to_frame()
        if isinstance(values, Mapping):
            return pl.DataFrame(dict(values))
        if isinstance(values, list | tuple):
            return pl.from_dicts(values, infer_schema_length=None)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise ValueError(f"no table can be made of the values: {said(error)}") from error
    raise ValueError(
        f"the dataset is a {kind.__name__}: give a path, a pyarrow table, a dict of columns or a list of rows"
    )
