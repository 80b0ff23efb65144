"""Rows of TSV and CSV files, with line numbers and without guesses."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_pl.data.reading.errors import DataError, RowPolicy
from kexue_pl.data.reading.lines import Line, read_lines

__all__ = ["Cells", "read_csv", "read_tsv"]

_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}


@dataclass(frozen=True)
class Cells:
    """The fields of one row and the line on which it begins."""

    line: int
    cells: list[str]


def read_tsv(path: Path, policy: RowPolicy, *, single: bool = False) -> list[Cells]:
    """Rows of a tab-separated file: no quoting, no null strings, every row as wide as the first.

    The parsing is pyarrow's in its strictest setting; a quote is text and ``NA`` is two letters.

    Args:
        path: the file.
        policy: what happens to bad rows.
        single: one field will do, so that a file without the delimiter is no mistake.

    Raises:
        DataError: see :func:`kexue_pl.data.reading.lines.read_lines`; no tab in the first line;
            a row with fewer or more fields than the first.
    """
    lines = read_lines(path, policy)
    if not lines:
        return []
    width = lines[0].text.count("\t") + 1
    if not single:
        _check_delimiter(path, lines[0], "\t")
    lines = [line for line in lines if _fits(path, line, width, policy)]
    table = _parse(("\n".join(line.text for line in lines)).encode(), width)
    columns = [column.to_pylist() for column in table.columns]
    return [Cells(line.number, list(cells)) for line, cells in zip(lines, zip(*columns))]


def _parse(data: bytes, width: int) -> Any:
    import pyarrow as pa
    from pyarrow import csv as arrow

    names = [str(i) for i in range(width)]
    return arrow.read_csv(
        pa.BufferReader(data),
        read_options=arrow.ReadOptions(use_threads=False, column_names=names),
        parse_options=arrow.ParseOptions(
            delimiter="\t",
            quote_char=False,
            double_quote=False,
            newlines_in_values=False,
            ignore_empty_lines=False,
        ),
        convert_options=arrow.ConvertOptions(
            strings_can_be_null=False,
            null_values=[],
            check_utf8=True,
            column_types={name: pa.string() for name in names},
        ),
    )


def _fits(path: Path, line: Line, width: int, policy: RowPolicy) -> bool:
    count = line.text.count("\t") + 1
    if count == width:
        return True
    policy.fault(_wrong_width(path, line.number, count, width, line.text, "tabs"))
    return False


def _wrong_width(
    path: Path, number: int, count: int, width: int, saw: str, marks: str
) -> DataError:
    kind = "too few" if count < width else "too many"
    what = f"{kind} fields: {count}, the first row has {width}"
    return DataError(path, what, line=number, saw=saw, do=f"check the {marks} of this line")


def _check_delimiter(path: Path, line: Line, delimiter: str) -> None:
    if delimiter in line.text:
        return
    counts = {mark: line.text.count(mark) for mark in _NAMES if mark != delimiter}
    best = max(counts, key=lambda mark: counts[mark])
    what = f"no {_NAMES[delimiter]} in the first row"
    do = f"separate fields by a {_NAMES[delimiter]}"
    if counts[best]:
        do = f"the fields seem to be separated by a {_NAMES[best]}; {do}"
        if best in "\t,":
            do += f", or name the file .{'tsv' if best != ',' else 'csv'}"
    raise DataError(path, what, line=line.number, saw=line.text, do=do)


def read_csv(path: Path, policy: RowPolicy, *, single: bool = False) -> list[Cells]:
    """Rows of a comma-separated file, fields quoted as in RFC 4180, every row as wide as the first.

    Args:
        path: the file.
        policy: what happens to bad rows.
        single: one field will do, so that a file without the delimiter is no mistake.

    Raises:
        DataError: see :func:`kexue_pl.data.reading.lines.read_lines`; no comma in the first line;
            a quote that is not closed or stands inside a field; a row of another width.
    """
    # A blank line may belong to a quoted field; elsewhere the parser gives no fields for it.
    lines = read_lines(path, policy, keep_blank=True)
    first = next((line for line in lines if line.text.strip()), None)
    if first is None:
        return []
    if not single:
        _check_delimiter(path, first, ",")
    rows: list[Cells] = []
    for row in _records(path, lines, policy):
        if rows and len(row.cells) != len(rows[0].cells):
            saw, width = ",".join(row.cells), len(rows[0].cells)
            error = _wrong_width(path, row.line, len(row.cells), width, saw, "commas and quotes")
            policy.fault(error)
        else:
            rows.append(row)
    return rows


def _records(path: Path, lines: list[Line], policy: RowPolicy) -> Iterator[Cells]:
    reader = csv.reader((line.text + "\n" for line in lines), strict=True)
    while True:
        first = reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = lines[min(first, len(lines) - 1)]
            do = "close the quote, double it inside a field, or save the file as .tsv"
            what = f"malformed CSV, {error}"
            policy.fault(DataError(path, what, line=line.number, saw=line.text, do=do))
        else:
            if cells:
                yield Cells(lines[first].number, cells)
