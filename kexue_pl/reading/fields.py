"""What a task wants of a row: texts, labels, ids; how a column is found and a value checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from kexue_pl.reading.errors import DataError

__all__ = ["Field", "find_names", "find_positions", "has_header"]

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Field:
    """One field of a row.

    Args:
        kind: ``text`` (not empty), ``integer`` (a class or grade), ``number`` (a score), ``label``
            (integer or number, as the first row has it) or ``any`` (taken as it is).
        column: name or 0-based position; None looks for the name of the field, then its aliases.
        aliases: other names under which data sets hold this field.
        required: False allows the column to be missing.
        low: smallest value allowed for a number.
        high: largest value allowed for a number.
        by_name: never found by its order; a file without a header holds it only where ``column``
            is a position.
        unique: no two rows of a source may have the same value.
        option: the setting that names the column, for messages; None is ``data.NAME_column``.
    """

    kind: Literal["text", "integer", "number", "label", "any"] = "text"
    column: str | int | None = None
    aliases: tuple[str, ...] = ()
    required: bool = True
    low: float | None = None
    high: float | None = None
    by_name: bool = False
    unique: bool = False
    option: str | None = None

    def names(self, name: str) -> tuple[str, ...]:
        """Columns that may hold the field ``name``, the likeliest first."""
        return (name, *self.aliases) if self.column is None else (str(self.column),)

    def setting(self, name: str) -> str:
        """The override that names the column of the field ``name``."""
        return self.option or f"data.{name}_column"

    def value(self, raw: Any, *, where: str | Path, line: int, name: str) -> Any:
        """The checked value.

        Raises:
            DataError: a value that does not fit; nothing is converted by guess.
        """
        if self.kind == "any":
            return raw
        if self.kind == "text":
            return _text(raw, where, line, name)
        number = _number(raw, self.kind, where, line, name)
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= number <= high:
            what = f"{name} out of range {low:g}..{high:g}"
            do = "mend the label, or set data.label_low and data.label_high"
            raise DataError(where, what, line=line, saw=raw, do=do)
        return number


def _text(raw: Any, where: str | Path, line: int, name: str) -> str:
    if not isinstance(raw, str):
        do = "write it as text in quotes"
        raise DataError(where, f"{name} is not text", line=line, saw=repr(raw), do=do)
    if not raw.strip():
        do = "fill it in, or set data.on_error=skip"
        raise DataError(where, f"{name} is empty", line=line, saw=raw, do=do)
    if "\0" in raw:
        raise DataError(where, f"a NUL in {name}", line=line, saw=raw, do="remove it")
    if not raw.isascii():
        try:
            raw.encode("utf-8")
        except UnicodeEncodeError:
            what = f"half of a surrogate pair in {name}"
            raise DataError(where, what, line=line, saw=ascii(raw), do="mend the text") from None
    return raw


def _number(raw: Any, kind: str, where: str | Path, line: int, name: str) -> int | float:
    whole = "write a whole number such as 0 or 1"
    if isinstance(raw, bool):
        return int(raw)
    if raw is None or raw == "":
        raise DataError(where, f"{name} is missing", line=line, saw=repr(raw), do=whole)
    if isinstance(raw, int):
        return raw
    if isinstance(raw, float):
        if not math.isfinite(raw):
            raise DataError(where, f"{name} is not finite", line=line, saw=str(raw), do=whole)
        if kind == "integer":
            do = f"{whole}, or set data.label=number"
            raise DataError(where, f"{name} is not a whole number", line=line, saw=str(raw), do=do)
        return raw
    text = str(raw)
    if kind != "number" and _INTEGER.fullmatch(text):
        return int(text)
    if kind != "integer" and _DECIMAL.fullmatch(text):
        return float(text)
    do = f"{whole}, or set data.label=number" if _DECIMAL.fullmatch(text) else whole
    what = f"{name} is not a {'whole ' if kind == 'integer' else ''}number"
    raise DataError(where, what, line=line, saw=text, do=do)


def find_names(
    where: str | Path, present: Sequence[str], fields: Mapping[str, Field]
) -> dict[str, str | None]:
    """Field -> the column that holds it, None for a missing one that is not required.

    Raises:
        DataError: a required column is missing; the message names those that are there.
    """
    found: dict[str, str | None] = {}
    for name, field in fields.items():
        wanted = field.names(name)
        column = next((option for option in wanted if option in present), None)
        if column is None and (field.required or field.column is not None):
            near = get_close_matches(wanted[0], present, n=1)
            do = f"set {field.setting(name)}" + (f", perhaps to {near[0]!r}" if near else "")
            what = f"no column {wanted[0]!r}; the columns are {', '.join(map(repr, present))}"
            raise DataError(where, what, do=do)
        found[name] = column
    return found


def has_header(first: Sequence[str], fields: Mapping[str, Field]) -> bool:
    """Whether the first row of a delimited file names columns rather than being data.

    It does where a field asks for a column by name, or where all required fields are found.

    >>> has_header(["text1", "text2", "label"], {"text1": Field(), "text2": Field()})
    True
    >>> has_header(["你好", "您好", "1"], {"text1": Field(), "text2": Field()})
    False
    """
    columns = [field.column for field in fields.values()]
    if any(isinstance(column, str) for column in columns):
        return True
    if any(isinstance(column, int) for column in columns):
        return False
    needed = [(name, field) for name, field in fields.items() if field.required]
    return all(any(option in first for option in field.names(name)) for name, field in needed)


def find_positions(
    where: str | Path, width: int, fields: Mapping[str, Field]
) -> dict[str, int | None]:
    """Field -> its position in a file without a header; the order of ``fields`` unless told.

    Raises:
        DataError: a position beyond the row.
    """
    found: dict[str, int | None] = {}
    for order, (name, field) in enumerate(fields.items()):
        if field.by_name and field.column is None:
            found[name] = None
            continue
        position = order if field.column is None else int(field.column)
        if 0 <= position < width:
            found[name] = position
        elif field.required or field.column is not None:
            what = f"the rows have {width} fields, {name} is looked for at position {position}"
            do = f"set {field.setting(name)} to 0..{width - 1}, or add a header"
            raise DataError(where, what, line=1, do=do)
        else:
            found[name] = None
    return found
