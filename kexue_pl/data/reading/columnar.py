"""Rows of Parquet files and of data sets of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kexue_pl.data.reading.errors import DataError
from kexue_pl.data.reading.jsonl import Record
from kexue_pl.data.reading.lines import read_bytes

__all__ = ["is_hub", "read_hub", "read_parquet"]

_HUB = re.compile(
    r"hub:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:\[(?P<config>[\w.-]+)\])?"
    r":(?P<split>[\w.-]+)@(?P<revision>[\w./-]+)"
)
_FORM = "hub:OWNER/NAME:SPLIT@REVISION or hub:OWNER/NAME[CONFIG]:SPLIT@REVISION"


def read_parquet(path: Path) -> list[Record]:
    """Rows of a Parquet file; the numbers are row numbers from 1.

    Raises:
        DataError: no such file, not Parquet, or no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    read_bytes(path)
    try:
        table = parquet.read_table(path)
    except pa.ArrowInvalid as error:
        do = "write it again, or give it the ending of its format"
        raise DataError(path, f"not a Parquet file ({error})", do=do) from None
    return _records(str(path), table.to_pylist())


def is_hub(source: str) -> bool:
    """Whether a source names a data set of the hub: it begins with ``hub:``."""
    return source.startswith("hub:")


def read_hub(source: str) -> list[Record]:
    """Rows of one split of a hub data set at a fixed revision.

    Args:
        source: ``hub:OWNER/NAME:SPLIT@REVISION``, a configuration in brackets after the name. A
            revision is required: data that can change under the same name is no data.

    Raises:
        DataError: another form, or a set that cannot be loaded.
    """
    match = _HUB.fullmatch(source)
    if match is None:
        raise DataError(source, "not the address of a hub data set", do=f"write {_FORM}")
    from datasets import load_dataset

    try:
        rows = load_dataset(
            match["name"], match["config"], split=match["split"], revision=match["revision"]
        )
    except Exception as error:  # the library raises a dozen unrelated types here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        do = "check name, split, revision and network, or give a local file"
        raise DataError(source, f"cannot be loaded ({reason})", do=do) from error
    return _records(source, list(rows))


def _records(where: str, rows: list[dict[str, Any]]) -> list[Record]:
    if not rows:
        raise DataError(where, "no rows", do="give a source with data")
    return [Record(number, row) for number, row in enumerate(rows, 1)]
