"""Objects of JSON Lines files (one object a line), and of files with one JSON array."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_pl.data.reading.errors import DataError, RowPolicy
from kexue_pl.data.reading.lines import Line, read_lines

__all__ = ["Record", "read_jsonl"]


@dataclass(frozen=True)
class Record:
    """The values of one row by column, and its line (or row) number."""

    line: int
    values: dict[str, Any]


class _RefusedError(ValueError):
    """A JSON text that is well-formed for the parser but not for us."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _RefusedError(f"the key {key!r} occurs twice in an object")
        values[key] = value
    return values


def _constant(name: str) -> Any:
    raise _RefusedError(f"{name} is not JSON")


def _load(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_constant)


def read_jsonl(path: Path, policy: RowPolicy) -> list[Record]:
    """Objects of a file, one a line; a file that begins with ``[`` is one array of objects.

    Raises:
        DataError: see :func:`kexue_pl.data.reading.lines.read_lines`; malformed JSON (with its
            column), a line that is no object, a key that occurs twice, NaN or Infinity.
    """
    lines = read_lines(path, policy)
    if lines and lines[0].text.lstrip().startswith("["):
        return _array(path, lines)
    records: list[Record] = []
    for line in lines:
        try:
            records.append(Record(line.number, _object(path, line)))
        except DataError as error:
            policy.fault(error)
    return records


def _object(path: Path, line: Line) -> dict[str, Any]:
    do = "write one JSON object a line"
    try:
        value = _load(line.text)
    except json.JSONDecodeError as error:
        what = f"malformed JSON at column {error.colno} ({error.msg})"
        raise DataError(path, what, line=line.number, saw=line.text, do=do) from None
    except (_RefusedError, RecursionError) as error:
        what = str(error) or "nested too deep"
        raise DataError(path, what, line=line.number, saw=line.text, do="mend this line") from None
    if not isinstance(value, dict):
        what = f"a JSON {type(value).__name__}, expected an object"
        raise DataError(path, what, line=line.number, saw=line.text, do=do)
    return value


def _array(path: Path, lines: list[Line]) -> list[Record]:
    try:
        values = _load("\n".join(line.text for line in lines))
    except json.JSONDecodeError as error:
        number = lines[min(error.lineno, len(lines)) - 1].number
        what = f"malformed JSON at column {error.colno} ({error.msg})"
        raise DataError(path, what, line=number, do="mend the array") from None
    except _RefusedError as error:
        raise DataError(path, str(error), do="mend the array") from None
    for row, value in enumerate(values, 1):
        if not isinstance(value, dict):
            what = f"row {row} of the array is a {type(value).__name__}, expected an object"
            raise DataError(path, what, saw=value, do="write an array of objects")
    if not values:
        raise DataError(path, "no rows, the array is empty", do="give a file with data")
    return [Record(row, value) for row, value in enumerate(values, 1)]
