"""Checked rows of one source or several, each knowing the line it came from; whole or one by one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kexue_pl.reading.columnar import is_hub, iter_hub, iter_parquet
from kexue_pl.reading.delimited import Cells, iter_csv, iter_tsv
from kexue_pl.reading.errors import DataError, RowPolicy
from kexue_pl.reading.fields import Field, find_names, find_positions, has_header
from kexue_pl.reading.jsonl import Record, iter_jsonl
from kexue_pl.reading.lines import near_names

__all__ = ["ENDINGS", "Row", "Table", "iter_table", "read_table"]

_LOG = logging.getLogger(__name__)

PEEK = 1000
"""Rows of a JSON Lines file that tell its columns where it is read in bounded memory."""

ENDINGS: dict[str, str] = {
    ".tsv": "tsv",
    ".txt": "tsv",
    ".data": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
"""File ending -> how the file is read."""


@dataclass(frozen=True)
class Table:
    """Rows as columns of equal length, and where each row stands.

    Args:
        columns: field -> values.
        places: (source, line) of each row; the line is a row number where there are no lines.
    """

    columns: dict[str, list[Any]]
    places: list[tuple[str, int]]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: values[row] for name, values in self.columns.items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))

    def where(self, row: int) -> str:
        """``FILE:LINE`` of a row."""
        source, line = self.places[row]
        return f"{source}:{line}"

    def take(self, rows: Sequence[int]) -> Table:
        """The given rows as a new table."""
        columns = {name: [values[i] for i in rows] for name, values in self.columns.items()}
        return Table(columns, [self.places[i] for i in rows])

    def to_dataset(self) -> Any:
        """The same rows as a ``datasets.Dataset``."""
        from datasets import Dataset

        return Dataset.from_dict(self.columns)


@dataclass(frozen=True)
class Row:
    """Checked values of one row and where it stands."""

    source: str
    line: int
    values: dict[str, Any]


def read_table(
    source: str | Path | Sequence[str | Path],
    fields: Mapping[str, Field],
    *,
    policy: RowPolicy | None = None,
) -> Table:
    """Read and check rows of a file, a folder of files, a hub data set, or a list of these.

    TSV, CSV, JSON Lines and Parquet are told apart by the ending of the name. A folder gives the
    rows of all its files of these endings, in the order of their names. A delimited file has a
    header where its first row names the fields; else the fields stand in the order of ``fields``.

    Args:
        source: path, ``hub:OWNER/NAME:SPLIT@REVISION``, or several.
        fields: what is wanted of each row.
        policy: what happens to bad rows; by default the first one raises.

    Raises:
        DataError: ``FILE:LINE: what; saw ...; do: ...``.
    """
    columns: dict[str, list[Any]] = {name: [] for name in fields}
    places: list[tuple[str, int]] = []
    for row in iter_table(source, fields, policy=policy, peek=None):
        for name, value in row.values.items():
            columns[name].append(value)
        places.append((row.source, row.line))
    for name, field in fields.items():
        if not field.required and all(value is None for value in columns[name]):
            del columns[name]
    return Table(columns, places)


def iter_table(
    source: str | Path | Sequence[str | Path],
    fields: Mapping[str, Field],
    *,
    policy: RowPolicy | None = None,
    peek: int | None = PEEK,
) -> Iterator[Row]:
    """The rows of :func:`read_table` one by one, in bounded memory.

    Args:
        source: as for :func:`read_table`.
        fields: what is wanted of each row.
        policy: what happens to bad rows.
        peek: rows of a JSON Lines file whose keys tell its columns; None looks at all of them
            first, which holds the file in memory.

    Raises:
        DataError: as :func:`read_table`; a column that shows first behind the ``peek`` rows.
    """
    policy = policy or RowPolicy()
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    seen: dict[str, dict[Any, str]] = {name: {} for name, field in fields.items() if field.unique}
    count = 0
    for item in [part for one in sources for part in _parts(one)]:
        for line, raw in _raw_rows(item, fields, policy, peek):
            fields = _settle(fields, raw)
            try:
                row = Row(str(item), line, _values(item, line, raw, fields))
                for name, places in seen.items():
                    _check_unique(row, name, places)
            except DataError as error:
                policy.fault(error)
                continue
            count += 1
            yield row
    policy.write()
    if not count:
        where = str(source) if len(sources) == 1 else ", ".join(map(str, sources)) or "no source"
        do = "see the bad rows, or give a file with data"
        raise DataError(where, "no rows", do=do)


def _values(
    source: str | Path, line: int, raw: Mapping[str, Any], fields: Mapping[str, Field]
) -> dict[str, Any]:
    return {
        name: None
        if raw[name] is _ABSENT
        else field.value(raw[name], where=source, line=line, name=name)
        for name, field in fields.items()
    }


def _check_unique(row: Row, name: str, places: dict[Any, str]) -> None:
    value, here = row.values[name], f"{row.source}:{row.line}"
    if value is None:
        return
    try:
        first = places.setdefault(value, here)
    except TypeError:
        what = f"{name} is a {type(value).__name__}, expected a number or text"
        raise DataError(row.source, what, line=row.line, saw=value, do="mend it") from None
    if first != here:
        what = f"the {name} was seen before, at {first}"
        do = f"give every row an {name} of its own, or read the file without {name}s"
        raise DataError(row.source, what, line=row.line, saw=value, do=do)


def _parts(source: str | Path) -> list[str | Path]:
    """The source itself, or the files of a folder."""
    if isinstance(source, str) and is_hub(source):
        return [source]
    path = Path(source)
    if path.is_dir():
        parts = sorted(p for p in path.iterdir() if p.suffix in ENDINGS and p.is_file())
        if not parts:
            do = f"put files ending in {', '.join(ENDINGS)} there"
            raise DataError(path, "a folder without data files", do=do)
        return list(parts)
    return [path]


def _raw_rows(
    source: str | Path, fields: Mapping[str, Field], policy: RowPolicy, peek: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and unchecked values by field of each row of one part."""
    if isinstance(source, str):
        return _by_name(source, iter_hub(source), fields, peek)
    kind = _ending(source)
    if kind == "parquet":
        return _by_name(source, iter_parquet(source), fields, peek)
    if kind == "jsonl":
        return _by_name(source, iter_jsonl(source, policy), fields, peek)
    single = sum(field.required for field in fields.values()) < 2
    rows = (iter_tsv if kind == "tsv" else iter_csv)(source, policy, single=single)
    return _by_cell(source, rows, fields)


_ABSENT: Any = object()


def _settle(fields: Mapping[str, Field], raw: Mapping[str, Any]) -> Mapping[str, Field]:
    """A field of kind ``label`` becomes integer or number, as its first value shows."""
    open_fields = [n for n, f in fields.items() if f.kind == "label" and raw[n] is not _ABSENT]
    if not open_fields:
        return fields
    settled = dict(fields)
    for name in open_fields:
        value = raw[name]
        decimal = isinstance(value, float) or (isinstance(value, str) and "." in value)
        settled[name] = replace(fields[name], kind="number" if decimal else "integer")
    return settled


def _ending(path: Path) -> str:
    if path.suffix in ENDINGS:
        return ENDINGS[path.suffix]
    if not path.is_file():
        near = ", ".join(near_names(path))
        do = f"near names there: {near}" if near else "check the path"
        raise DataError(path, "no such file", do=do)
    do = f"rename it to one of {', '.join(ENDINGS)}"
    raise DataError(path, f"the ending {path.suffix!r} is unknown", do=do)


def _by_name(
    where: str | Path, rows: Iterator[Record], fields: Mapping[str, Field], peek: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    first = list(islice(rows, peek))
    if not first:
        return
    present = list(dict.fromkeys(key for row in first for key in row.values))
    found = find_names(where, present, fields)
    _tell_unused(where, [name for name in present if name not in found.values()])
    late = {option for name in fields if found[name] is None for option in fields[name].names(name)}
    for row in chain(first, rows):
        if late and (new := late & row.values.keys()):
            what = f"the column {min(new)!r} shows first in row {row.line}"
            raise DataError(where, what, do="give it to all rows, or name it data.x_column")
        yield (
            row.line,
            {
                name: _ABSENT
                if column is None
                else row.values.get(column, None if fields[name].kind != "any" else _ABSENT)
                for name, column in found.items()
            },
        )


def _by_cell(
    where: str | Path, rows: Iterator[Cells], fields: Mapping[str, Field]
) -> Iterator[tuple[int, dict[str, Any]]]:
    head = next(rows, None)
    if head is None:
        return
    positions: dict[str, int | None]
    first = [cell.strip() for cell in head.cells]
    if has_header(first, fields):
        found = find_names(where, first, fields)
        twice = next((name for name in found.values() if name and first.count(name) > 1), None)
        if twice is not None:
            what = f"the column {twice!r} occurs twice"
            raise DataError(where, what, line=head.line, do="rename one of them")
        positions = {n: None if c is None else first.index(c) for n, c in found.items()}
        _tell_unused(where, [name for name in first if name not in found.values()])
        head = next(rows, None)
        if head is None:
            do = "give a file with data under its header"
            raise DataError(where, "no rows, only a header", line=1, do=do)
    else:
        positions = find_positions(where, len(first), fields)
        _tell_unused(where, [str(n) for n in range(len(first)) if n not in positions.values()])
    for row in chain([head], rows):
        yield row.line, {n: _ABSENT if p is None else row.cells[p] for n, p in positions.items()}


def _tell_unused(where: str | Path, names: Sequence[str]) -> None:
    if names:
        _LOG.warning("%s: columns that are not used: %s", where, ", ".join(names))
