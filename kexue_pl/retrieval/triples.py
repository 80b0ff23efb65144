"""Files of triples, or of any key columns, to a prefix index in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kexue_pl.reading.errors import RowPolicy
from kexue_pl.retrieval.encode import CHUNK, Encode, encode_chunks
from kexue_pl.retrieval.index_builder import build_index
from kexue_pl.retrieval.key_files import read_blocks
from kexue_pl.retrieval.meaning import CLOSE, split_subject
from kexue_pl.retrieval.prefix_index import PrefixIndex
from kexue_pl.retrieval.text_column import TextColumn

if TYPE_CHECKING:
    import pyarrow as pa

PENDING = 16  # blocks whose dictionaries are made one at a time


def index_file(
    path: str | Path,
    encode: Encode,
    *,
    separator: int,
    tokenizer: str = "",
    keys: Sequence[str] = ("subject", "predicate"),
    value: str | None = "object",
    meaning: bool = True,
    texts: bool = True,
    progress: Callable[[int], object] | None = None,
    policy: RowPolicy | None = None,
) -> PrefixIndex:
    """Index of a TSV, JSONL or Parquet file.

    Args:
        path: the file; a TSV has no header line and its columns are ``keys`` then ``value`` in
            that order.
        encode: texts to token strings; called on distinct strings only.
        separator: token id that ends a segment.
        tokenizer: fingerprint of the vocabulary.
        keys: columns that make the key, in the order they are generated; one column for flat keys.
        value: column of the answer; None stores the number of the row in the file.
        meaning: cut the bracketed meaning off the first column and make it the last segment.
        texts: store the texts of the segments, so that answers show them as written.
        progress: called with the number of rows of each block read.
        policy: what happens to bad rows; by default the first one raises.

    Raises:
        DataError: ``FILE:LINE: what; saw ...; do: ...``, see ``key_files.read_blocks``.
    """
    wanted = [*keys, *([value] if value else [])]
    codes: list[list[Any]] = [[] for _ in keys]
    values = TextColumn()
    for block in read_blocks(Path(path), wanted, policy=policy):
        for code, column in zip(codes, block, strict=False):
            code.append(column.dictionary_encode())
            if len(code) == PENDING:
                code[:] = _one_dictionary(code)
        if value:
            values.append(block[-1])
        if progress is not None:
            progress(len(block[0]))
        del block
    names, columns = zip(*(_unify(code) for code in codes), strict=True)
    pools, numbers = list(names), list(columns)
    del columns
    if meaning:
        _split_meanings(pools, numbers)
    rows = np.arange(len(numbers[0]), dtype=np.uint32)
    strings = [encode_chunks(encode, _chunks(pool)) for pool in pools]
    shown = pools if texts else None
    index = build_index(
        strings, numbers, rows, separator=separator, tokenizer=tokenizer, texts=shown
    )
    if not value:
        return index
    # The texts of the values come last, when nothing else of the rows is held any more.
    del pools, numbers, rows, strings, shown
    arrays = dict(index.arrays)
    arrays["value_bytes"], arrays["value_offsets"] = values.reordered(arrays.pop("values"))
    return PrefixIndex(arrays, index.info)


def _one_dictionary(codes: list[Any]) -> list[Any]:
    """Blocks with dictionaries of their own as one block: names met in several are held once."""
    import pyarrow as pa

    return [pa.chunked_array(codes).unify_dictionaries().combine_chunks()]


def _unify(codes: list[Any]) -> tuple[pa.Array, Any]:
    """Dictionary-encoded blocks to one pool of distinct texts and one column of numbers."""
    import pyarrow as pa

    whole = pa.chunked_array(codes).unify_dictionaries()
    codes.clear()
    pool = whole.chunk(0).dictionary.cast(pa.large_string())
    column = np.concatenate([chunk.indices.to_numpy() for chunk in whole.chunks])
    del whole
    return pool, column


def _split_meanings(pools: list[Any], columns: list[Any]) -> None:
    """Replace pool 0 by base names and append the pool of meanings; only distinct names are looked
    at.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    subjects = pools[0]
    cut = np.flatnonzero(pc.ends_with(subjects, pattern=CLOSE).to_numpy(zero_copy_only=False))
    meanings: dict[str, int] = {"": 0}
    of_subject = np.zeros(len(subjects), np.int32)
    bases = []
    for number, text in zip(cut.tolist(), subjects.take(pa.array(cut)).to_pylist(), strict=True):
        base, meaning = split_subject(text)
        bases.append(base)
        of_subject[number] = meanings.setdefault(meaning, len(meanings))
    shortened = pc.replace_with_mask(
        subjects, pc.ends_with(subjects, pattern=CLOSE), pa.array(bases, pa.large_string())
    )
    encoded = shortened.dictionary_encode()
    subject = columns[0]
    columns[0] = encoded.indices.to_numpy()[subject]
    columns.append(of_subject[subject])
    pools[0] = encoded.dictionary
    pools.append(pa.array(list(meanings), pa.large_string()))


def _chunks(pool: pa.Array) -> Iterator[list[str]]:
    for start in range(0, len(pool), CHUNK):
        yield pool.slice(start, CHUNK).to_pylist()
