"""Rows of TSV and CSV files, with line numbers and without guesses."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kexue_pl.reading.errors import DataError, RowPolicy
from kexue_pl.reading.lines import Line, iter_lines

__all__ = ["Cells", "iter_csv", "iter_tsv"]

_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}


@dataclass(frozen=True)
class Cells:
    """The fields of one row and the line on which it begins."""

    line: int
    cells: list[str]


def iter_tsv(path: Path, policy: RowPolicy, *, single: bool = False) -> Iterator[Cells]:
    """Rows of a tab-separated file: no quoting, no null strings, every row as wide as the first.

    A quote is text and ``NA`` is two letters.

    Args:
        path: the file.
        policy: what happens to bad rows.
        single: one field will do, so that a file without the delimiter is no mistake.

    Raises:
        DataError: see :func:`kexue_pl.reading.lines.iter_lines`; no tab in the first line;
            a row with fewer or more fields than the first.
    """
    width = 0
    for line in iter_lines(path, policy):
        if not width:
            width = line.text.count("\t") + 1
            if not single:
                _check_delimiter(path, line, "\t")
        if _fits(path, line, width, policy):
            yield Cells(line.number, line.text.split("\t"))


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


def iter_csv(path: Path, policy: RowPolicy, *, single: bool = False) -> Iterator[Cells]:
    """Rows of a comma-separated file, fields quoted as in RFC 4180, every row as wide as the first.

    Args:
        path: the file.
        policy: what happens to bad rows.
        single: one field will do, so that a file without the delimiter is no mistake.

    Raises:
        DataError: see :func:`kexue_pl.reading.lines.iter_lines`; no comma in the first line;
            a row of another width, a quote after the end of a field. Whatever the policy: a quote
            that is not closed, since it swallows the rows behind it, and a line that is not text.
    """
    width = 0
    for row in _records(path, policy, single):
        width = width or len(row.cells)
        if len(row.cells) != width:
            saw = ",".join(row.cells)
            error = _wrong_width(path, row.line, len(row.cells), width, saw, "commas and quotes")
            policy.fault(error)
        else:
            yield row


def _records(path: Path, policy: RowPolicy, single: bool) -> Iterator[Cells]:
    used: list[Line] = []
    checked = single

    def texts() -> Iterator[str]:
        nonlocal checked
        # A line that cannot be read may belong to a quoted field: to skip it would change a row.
        strict = RowPolicy(max_line_bytes=policy.max_line_bytes)
        # A blank line may belong to a quoted field; elsewhere the parser gives no fields for it.
        for line in iter_lines(path, strict, keep_blank=True):
            if not checked and line.text.strip():
                checked = True
                _check_delimiter(path, line, ",")
            used.append(line)
            yield line.text + "\n"

    reader = csv.reader(texts(), strict=True)
    while True:
        used.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            do = "close the quote, double it inside a field, or save the file as .tsv"
            line = used[0]
            fault = DataError(
                path, f"malformed CSV, {error}", line=line.number, saw=line.text, do=do
            )
            if "unexpected end" in str(error):
                raise fault from None
            policy.fault(fault)
        else:
            if any(line.text.strip() for line in used):
                yield Cells(used[0].number, cells)
