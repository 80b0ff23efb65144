"""The strict readers of :mod:`kexue_pl.reading` under the name of the layer that uses them most."""

from __future__ import annotations

from kexue_pl.reading import ENDINGS, DataError, Field, RowPolicy, Table, iter_table, read_table

__all__ = ["ENDINGS", "DataError", "Field", "RowPolicy", "Table", "iter_table", "read_table"]
