"""Rows of Parquet files and of data sets of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kexue_pl.reading.errors import DataError
from kexue_pl.reading.jsonl import Record
from kexue_pl.reading.lines import check_file

__all__ = ["is_hub", "iter_hub", "iter_parquet"]

_ROWS = 4096  # decoded at once: bounds memory

_HUB = re.compile(
    r"hub:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:\[(?P<config>[\w.-]+)\])?"
    r":(?P<split>[\w.-]+)@(?P<revision>[\w./-]+)"
)
_FORM = "hub:OWNER/NAME:SPLIT@REVISION or hub:OWNER/NAME[CONFIG]:SPLIT@REVISION"


def iter_parquet(path: Path) -> Iterator[Record]:
    """Rows of a Parquet file, a few thousand at a time; the numbers are row numbers from 1.

    Raises:
        DataError: no such file, not Parquet, damaged, two columns of one name, or no rows.
    """
    check_file(path)
    number = 0
    try:
        for batch in _batches(path):
            for row in batch.to_pylist():
                number += 1
                yield Record(number, row)
    except DataError:
        raise
    except Exception as error:  # pyarrow raises a dozen unrelated types on damaged bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        do = "write it again, or give it the ending of its format"
        what = f"damaged behind row {number}" if number else "not a Parquet file"
        raise DataError(path, f"{what} ({reason})", do=do) from None
    if not number:
        raise DataError(path, "no rows", do="give a file with data")


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(path, f"the column {twice!r} occurs twice", do="rename one of them")
        yield from file.iter_batches(batch_size=_ROWS)


def is_hub(source: str) -> bool:
    """Whether a source names a data set of the hub: it begins with ``hub:``."""
    return source.startswith("hub:")


def iter_hub(source: str) -> Iterator[Record]:
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
    number = 0
    for number, row in enumerate(rows, 1):
        yield Record(number, row)
    if not number:
        raise DataError(source, "no rows", do="give a source with data")
