"""Columns of a TSV, JSON Lines or Parquet file, a block at a time, strictly and in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kexue_pl.reading.errors import DataError, RowPolicy
from kexue_pl.reading.jsonl import Record, iter_jsonl
from kexue_pl.reading.lines import check_file, decode_line

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BLOCK", "SUFFIXES", "read_blocks"]

BLOCK = 16 << 20  # bytes of text read at a time
ROWS = 1 << 16  # rows of JSON Lines or Parquet at a time
SUFFIXES = (".tsv", ".txt", ".jsonl", ".json", ".parquet")


def read_blocks(
    path: Path, columns: Sequence[str], *, policy: RowPolicy | None = None
) -> Iterator[list[pa.Array]]:
    """Blocks of a file as one string array a column.

    A TSV has no header; its fields stand in the order of ``columns``, a quote is text, an empty
    field is an empty text. A value of JSON Lines or Parquet that is missing is a bad row.

    Args:
        path: ends in .tsv .txt .jsonl .json or .parquet.
        columns: wanted columns.
        policy: what happens to bad rows; by default the first one raises.

    Raises:
        DataError: ``FILE:LINE: what; saw ...; do: ...``; no such file, another suffix, a missing
            column, a row of another width, bytes that are no text, or no rows.
    """
    policy = policy or RowPolicy()
    if path.suffix not in SUFFIXES:
        what = f"suffix {path.suffix!r} is not one of {', '.join(SUFFIXES)}"
        raise DataError(path, what, do="rename it, or write it as one of these")
    check_file(path)
    open_ = {".parquet": _parquet, ".jsonl": _json, ".json": _json}.get(path.suffix, _tsv)
    rows = 0
    for block in open_(path, list(columns), policy):
        if len(block[0]):
            rows += len(block[0])
            yield block
    policy.write()
    if not rows:
        raise DataError(path, "no rows", do="see the bad rows, or give a file with data")


def _tsv(path: Path, columns: list[str], policy: RowPolicy) -> Iterator[list[pa.Array]]:
    number, rest = 1, b""
    with open(path, "rb") as file:
        if file.read(3) != codecs.BOM_UTF8:
            file.seek(0)
        while True:
            more = file.read(BLOCK)
            data = rest + more
            cut = data.rfind(b"\n") + 1 if more else len(data)
            data, rest = data[:cut], data[cut:]
            if data:
                yield _parse(_sound(path, data, number, len(columns), policy), columns)
                number += data.count(b"\n")
            if not more:
                return
            if len(rest) > policy.max_line_bytes:
                what = f"a line longer than data.max_line_bytes={policy.max_line_bytes}"
                raise DataError(path, what, line=number, saw=rest[:20], do="check the line ends")


def _sound(path: Path, data: bytes, number: int, width: int, policy: RowPolicy) -> bytes:
    """Whole lines as they are if nothing is wrong with any, else without the bad and blank ones."""
    plain = data.replace(b"\r\n", b"\n") if b"\r" in data else data
    if not plain.endswith(b"\n"):
        plain += b"\n"
    characters = np.frombuffer(plain, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    tabs = np.searchsorted(np.flatnonzero(characters == ord("\t")), ends)
    longest = int(np.diff(ends, prepend=-1).max()) - 1
    if (
        b"\r" not in plain
        and b"\0" not in plain
        and longest <= policy.max_line_bytes
        and (np.diff(tabs, prepend=0) == width - 1).all()
        and _is_utf8(plain)
    ):
        return plain
    return _mended(path, data, number, width, policy)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _mended(path: Path, data: bytes, number: int, width: int, policy: RowPolicy) -> bytes:
    kept = []
    for at, raw in enumerate(data.removesuffix(b"\n").split(b"\n"), number):
        raw = raw.removesuffix(b"\r")
        if not raw.strip():
            continue
        try:
            decode_line(path, at, raw, len(raw), policy)
            count = raw.count(b"\t") + 1
            if count != width:
                what = f"too {'few' if count < width else 'many'} fields: {count}, expected {width}"
                do = "separate the columns by tabs, one row a line"
                raise DataError(path, what, line=at, saw=raw.decode(), do=do)
        except DataError as error:
            policy.fault(error)
        else:
            kept.append(raw)
    return b"".join(raw + b"\n" for raw in kept)


def _parse(data: bytes, columns: list[str]) -> list[pa.Array]:
    import pyarrow as pa
    from pyarrow import csv

    if not data:
        return [pa.array([], pa.string()) for _ in columns]
    # A first line that is skipped: the parser would take a mark at the start of a block for a BOM.
    data = b"\t".join([b"x"] * len(columns)) + b"\n" + data
    table = csv.read_csv(
        pa.BufferReader(data),
        read_options=csv.ReadOptions(
            block_size=len(data) + 1, column_names=columns, use_threads=False, skip_rows=1
        ),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False),
        convert_options=csv.ConvertOptions(
            column_types={c: pa.string() for c in columns}, strings_can_be_null=False
        ),
    )
    return [column.combine_chunks() for column in table.columns]


def _json(path: Path, columns: list[str], policy: RowPolicy) -> Iterator[list[pa.Array]]:
    rows: list[list[str]] = []
    for record in iter_jsonl(path, policy):
        try:
            rows.append([_text(path, record, name) for name in columns])
        except DataError as error:
            policy.fault(error)
        if len(rows) == ROWS:
            yield _arrays(rows, columns)
            rows = []
    yield _arrays(rows, columns)


def _text(path: Path, record: Record, name: str) -> str:
    if name not in record.values:
        what = f"no column {name!r}; columns are {list(record.values)}"
        raise DataError(path, what, line=record.line, do="add it, or name another column")
    value = record.values[name]
    if not isinstance(value, str):
        do = "write it as text in quotes"
        raise DataError(path, f"{name} is not text", line=record.line, saw=repr(value), do=do)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        what = f"half of a surrogate pair in {name}"
        raise DataError(path, what, line=record.line, saw=ascii(value), do="mend it") from None
    return value


def _arrays(rows: list[list[str]], columns: list[str]) -> list[pa.Array]:
    import pyarrow as pa

    return [pa.array([row[k] for row in rows], pa.string()) for k in range(len(columns))]


def _parquet(path: Path, columns: list[str], policy: RowPolicy) -> Iterator[list[pa.Array]]:
    number = 0
    try:
        for batch in _batches(path, columns):
            block, kept = [], np.ones(len(batch), bool)
            for name in columns:
                column = batch.column(name)
                for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)):
                    what = f"{name} is missing"
                    line = number + int(row) + 1
                    policy.fault(DataError(path, what, line=line, do="fill it in"))
                    kept[row] = False
                block.append(column)
            number += len(batch)
            yield [_strings(column, kept) for column in block]
    except DataError:
        raise
    except Exception as error:  # pyarrow raises a dozen unrelated types on damaged bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        what = f"damaged behind row {number}" if number else "not a Parquet file"
        raise DataError(path, f"{what} ({reason})", do="write it again") from None


def _batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        schema = file.schema_arrow
        for name in columns:
            if schema.names.count(name) != 1:
                what = f"no column {name!r}; columns are {schema.names}"
                if name in schema.names:
                    what = f"the column {name!r} occurs twice"
                raise DataError(path, what, do="name another column, or rename one")
            kind = schema.field(name).type
            inner = kind.value_type if pa.types.is_dictionary(kind) else kind
            text = pa.types.is_string(inner) or pa.types.is_large_string(inner)
            if not text and not pa.types.is_integer(inner):
                what = f"the column {name!r} holds {kind}, expected text"
                raise DataError(path, what, do="write the column as text")
        yield from file.iter_batches(batch_size=ROWS, columns=columns)


def _strings(column: pa.Array, kept: Any) -> pa.Array:
    import pyarrow as pa

    column = column.cast(pa.string())
    if not kept.all():
        column = column.filter(pa.array(kept))
    column.validate(full=True)
    return column
