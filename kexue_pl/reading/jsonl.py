"""Objects of JSON Lines files (one object a line), and of files with one JSON array."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from kexue_pl.reading.errors import DataError, RowPolicy
from kexue_pl.reading.lines import Line, iter_lines

__all__ = ["Record", "iter_jsonl"]


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
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_constant)
    except RecursionError:
        raise _RefusedError("nested too deep") from None
    except json.JSONDecodeError:
        raise
    except _RefusedError:
        raise
    except ValueError:  # Python's limit on the digits of an integer
        raise _RefusedError("a number of too many digits") from None


def iter_jsonl(path: Path, policy: RowPolicy) -> Iterator[Record]:
    """Objects of a file, one a line; a file that begins with ``[`` is one array of objects.

    Lines are read in bounded memory, an array at once.

    Raises:
        DataError: see :func:`kexue_pl.reading.lines.iter_lines`; malformed JSON (with its
            column), a line that is no object, a key that occurs twice, NaN or Infinity.
    """
    lines = iter_lines(path, policy)
    first = next(lines, None)
    if first is None:
        return
    if first.text.lstrip().startswith("["):
        # A line left out of the middle of an array could change a row without breaking the syntax.
        strict = RowPolicy(max_line_bytes=policy.max_line_bytes)
        yield from _array(path, list(iter_lines(path, strict)))
        return
    for line in chain([first], lines):
        try:
            record = Record(line.number, _object(path, line))
        except DataError as error:
            policy.fault(error)
            continue
        yield record


def _object(path: Path, line: Line) -> dict[str, Any]:
    do = "write one JSON object a line"
    try:
        value = _load(line.text)
    except json.JSONDecodeError as error:
        what = f"malformed JSON at column {error.colno} ({error.msg})"
        raise DataError(path, what, line=line.number, saw=line.text, do=do) from None
    except _RefusedError as error:
        do = "mend this line"
        raise DataError(path, str(error), line=line.number, saw=line.text, do=do) from None
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
        do = "mend the array, or write one JSON object a line"
        raise DataError(path, what, line=number, do=do) from None
    except _RefusedError as error:
        raise DataError(path, str(error), do="mend the array") from None
    for row, value in enumerate(values, 1):
        if not isinstance(value, dict):
            what = f"row {row} of the array is a {type(value).__name__}, expected an object"
            raise DataError(path, what, saw=value, do="write an array of objects")
    if not values:
        raise DataError(path, "no rows, the array is empty", do="give a file with data")
    return [Record(row, value) for row, value in enumerate(values, 1)]
