"""Strict readers: rows with FILE:LINE, nothing converted or dropped in silence."""

from __future__ import annotations

from kexue_pl.bad_input import BadRow, DataError, RowPolicy
from kexue_pl.data.reading.fields import Field
from kexue_pl.data.reading.lines import Line, read_lines
from kexue_pl.data.reading.table import ENDINGS, Row, Table, iter_table, read_table

__all__ = [
    "ENDINGS",
    "BadRow",
    "DataError",
    "Field",
    "Line",
    "Row",
    "RowPolicy",
    "Table",
    "iter_table",
    "read_lines",
    "read_table",
]
