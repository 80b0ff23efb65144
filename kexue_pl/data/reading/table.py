"""Checked rows of one source or several, each knowing the line it came from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kexue_pl.data.reading.columnar import is_hub, read_hub, read_parquet
from kexue_pl.data.reading.delimited import Cells, read_csv, read_tsv
from kexue_pl.data.reading.errors import DataError, RowPolicy
from kexue_pl.data.reading.fields import Field, find_names, find_positions, has_header
from kexue_pl.data.reading.jsonl import Record, read_jsonl
from kexue_pl.data.reading.lines import near_names

__all__ = ["ENDINGS", "Table", "read_table"]

_LOG = logging.getLogger(__name__)

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
    policy = policy or RowPolicy()
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    columns: dict[str, list[Any]] = {name: [] for name in fields}
    places: list[tuple[str, int]] = []
    for item in [part for one in sources for part in _parts(one)]:
        fields = _read(item, fields, columns, places, policy)
    policy.write()
    if not places:
        where = str(source) if len(sources) == 1 else ", ".join(map(str, sources)) or "no source"
        do = "see the bad rows, or give a file with data"
        raise DataError(where, "no rows", do=do)
    missing = [name for name, values in columns.items() if all(v is None for v in values)]
    for name in missing:
        if not fields[name].required:
            del columns[name]
    return Table(columns, places)


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


def _read(
    source: str | Path,
    fields: Mapping[str, Field],
    columns: dict[str, list[Any]],
    places: list[tuple[str, int]],
    policy: RowPolicy,
) -> Mapping[str, Field]:
    """Add the rows of one part; the fields with label kinds settled by its first row."""
    records: list[tuple[int, dict[str, Any]]]
    if isinstance(source, str):
        records = _by_name(source, read_hub(source), fields)
    else:
        kind = _ending(source)
        if kind == "parquet":
            records = _by_name(source, read_parquet(source), fields)
        elif kind == "jsonl":
            records = _by_name(source, read_jsonl(source, policy), fields)
        else:
            single = sum(field.required for field in fields.values()) < 2
            rows = (read_tsv if kind == "tsv" else read_csv)(source, policy, single=single)
            records = _by_cell(source, rows, fields)
    for line, raw in records:
        fields = _settle(fields, raw)
        try:
            row = {
                name: None
                if raw[name] is _ABSENT
                else field.value(raw[name], where=source, line=line, name=name)
                for name, field in fields.items()
            }
        except DataError as error:
            policy.fault(error)
            continue
        for name, value in row.items():
            columns[name].append(value)
        places.append((str(source), line))
    return fields


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
    where: str | Path, rows: list[Record], fields: Mapping[str, Field]
) -> list[tuple[int, dict[str, Any]]]:
    present = list(dict.fromkeys(key for row in rows for key in row.values))
    if not rows:
        return []
    found = find_names(where, present, fields)
    used = {column for column in found.values() if column is not None}
    extra = [name for name in present if name not in used]
    if extra:
        _LOG.warning("%s: columns that are not used: %s", where, ", ".join(extra))
    out = []
    for row in rows:
        values = {
            name: _ABSENT
            if column is None
            else row.values.get(column, None if fields[name].kind != "any" else _ABSENT)
            for name, column in found.items()
        }
        out.append((row.line, values))
    return out


def _by_cell(
    where: str | Path, rows: list[Cells], fields: Mapping[str, Field]
) -> list[tuple[int, dict[str, Any]]]:
    if not rows:
        return []
    positions: dict[str, int | None]
    first = [cell.strip() for cell in rows[0].cells]
    if has_header(first, fields):
        found = find_names(where, first, fields)
        positions = {n: None if c is None else first.index(c) for n, c in found.items()}
        rows = rows[1:]
        if not rows:
            do = "give a file with data under its header"
            raise DataError(where, "no rows, only a header", line=1, do=do)
    else:
        positions = find_positions(where, len(first), fields)
    return [
        (row.line, {n: _ABSENT if p is None else row.cells[p] for n, p in positions.items()})
        for row in rows
    ]
