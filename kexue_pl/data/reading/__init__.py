"""Strict readers: rows with FILE:LINE, nothing converted or dropped in silence."""

from __future__ import annotations

from kexue_pl.data.reading.errors import BadRow, DataError, RowPolicy
from kexue_pl.data.reading.fields import Field
from kexue_pl.data.reading.lines import Line, read_lines
from kexue_pl.data.reading.table import ENDINGS, Table, read_table

__all__ = [
    "ENDINGS",
    "BadRow",
    "DataError",
    "Field",
    "Line",
    "RowPolicy",
    "Table",
    "read_lines",
    "read_table",
]
