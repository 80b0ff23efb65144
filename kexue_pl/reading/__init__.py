"""Strict readers: rows with FILE:LINE, nothing converted or dropped in silence."""

from __future__ import annotations

from kexue_pl.reading.errors import BadRow, DataError, RowPolicy
from kexue_pl.reading.fields import Field
from kexue_pl.reading.jsonl import iter_jsonl
from kexue_pl.reading.lines import Line, check_file, iter_lines, read_lines
from kexue_pl.reading.table import ENDINGS, Row, Table, iter_table, read_table

__all__ = [
    "ENDINGS",
    "BadRow",
    "DataError",
    "Field",
    "Line",
    "Row",
    "RowPolicy",
    "Table",
    "check_file",
    "iter_jsonl",
    "iter_lines",
    "iter_table",
    "read_lines",
    "read_table",
]
