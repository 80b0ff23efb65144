"""From pools of strings and columns of numbers to the sorted arrays of a prefix index."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval.prefix_index import IndexInfo, PrefixIndex, Value
from kexue_pl.retrieval.strings import Ints, Strings

if TYPE_CHECKING:
    import pyarrow as pa

SMALL = 1 << 16
LARGE = 1 << 32
KEY_BITS = 64  # one sort key holds the ranks of all segments


def build_index(
    pools: Sequence[Strings],
    columns: Sequence[NDArray[Any]],
    values: NDArray[Any] | pa.Array,
    *,
    separator: int,
    tokenizer: str = "",
    texts: Sequence[pa.Array] | None = None,
) -> PrefixIndex:
    """Index of R rows given as numbers of strings.

    Args:
        pools: K pools of token strings; equal strings of one pool (after case folding, say) become
            one.
        columns: K arrays (R,), the string of each row in each pool.
        values: (R,) integers, or a pyarrow string array.
        separator: token id that ends a segment; it may not occur inside a string.
        tokenizer: fingerprint of the vocabulary.
        texts: K pyarrow string arrays that show each string of the pools, optional.

    Raises:
        ValueError: no rows, columns of unequal length, or the separator inside a string.
    """
    if not columns or len(columns[0]) == 0:
        raise ValueError("the knowledge base has no rows; give at least one key")
    sizes = {len(c) for c in columns} | {len(values)}
    if len(sizes) > 1:
        raise ValueError(f"columns and values have unequal lengths: {sorted(sizes)}")
    ranks, kept, sources = [], [], []
    for k, pool in enumerate(pools):
        _reject_separator(pool, separator, k)
        rank, unique, source = _sorted_pool(pool, columns[k])
        ranks.append(rank)
        kept.append(unique)
        sources.append(source)
    merged = sum(len(np.unique(c)) for c in columns) - sum(len(p) for p in kept)
    order, first, ids = _sorted_rows(ranks, columns, [len(p) for p in kept])
    arrays = _pool_arrays(kept, separator)
    indptr = np.zeros(len(kept[0]) + 1, np.int64)
    np.cumsum(np.bincount(first, minlength=len(kept[0])), out=indptr[1:])
    del first
    arrays["indptr"] = indptr.astype(_unsigned(len(order)))
    arrays["ids"] = ids
    arrays |= _values_of(values, order)
    if texts is not None:
        arrays |= _display(texts, sources)
    return PrefixIndex(arrays, IndexInfo(separator, tokenizer, int(merged)))


def build_from_keys(
    items: Iterable[tuple[Sequence[int], Value]], *, separator: int, tokenizer: str
) -> PrefixIndex:
    """Index of (token ids, value) pairs, read once; memory grows with the distinct segments."""
    import pyarrow as pa

    numbers: list[dict[tuple[int, ...], int]] = []
    columns: list[array[int]] = []
    values: list[Value] = []
    for key, value in items:
        parts = _split(key, separator)
        if not numbers:
            numbers = [{} for _ in parts]
            columns = [array("I") for _ in parts]
        if len(parts) != len(numbers):
            raise ValueError(
                f"key {list(key)} has {len(parts)} segments, the first key has {len(numbers)}; "
                f"segments end at the separator {separator}"
            )
        for part, pool, column in zip(parts, numbers, columns, strict=True):
            column.append(pool.setdefault(part, len(pool)))
        values.append(value)
    pools = [Strings.of(pool) for pool in numbers]
    flat = [np.frombuffer(c, np.uint32) for c in columns]
    numeric = all(isinstance(v, int) for v in values)
    payload = np.array(values, np.int64) if numeric else pa.array([str(v) for v in values])
    return build_index(pools, flat, payload, separator=separator, tokenizer=tokenizer)


def _split(key: Sequence[int], separator: int) -> list[tuple[int, ...]]:
    parts: list[list[int]] = [[]]
    for token in key:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(int(token))
    return [tuple(p) for p in parts]


def _reject_separator(pool: Strings, separator: int, segment: int) -> None:
    if pool.flat.size and int(pool.flat.min()) < 0:
        raise ValueError(
            f"segment {segment} holds the token {int(pool.flat.min())}; ids begin at 0"
        )
    at = np.flatnonzero(pool.flat == separator)
    if len(at):
        number = int(np.searchsorted(pool.offsets, at[0], side="right")) - 1
        raise ValueError(
            f"segment {segment}, string {number} holds the separator {separator}: {pool[number]}; "
            "escape it in the text or choose another separator"
        )


def _sorted_pool(pool: Strings, column: NDArray[Any]) -> tuple[Ints, Strings, Ints]:
    """Rank of each string, the distinct used strings in order, and one original of each.

    A string no row uses would be a prefix that leads nowhere, so it is dropped.
    """
    used = np.zeros(len(pool), bool)
    used[column] = True
    order = pool.order()
    order = order[used[order]]
    ordered = pool.take(order)
    new = ordered.differs_from_previous()
    rank = np.zeros(len(pool), np.int64)
    rank[order] = np.cumsum(new) - 1
    return rank, ordered.take(np.flatnonzero(new)), order[new]


def _sorted_rows(
    ranks: list[Ints], columns: Sequence[NDArray[Any]], sizes: list[int]
) -> tuple[Ints, Ints, NDArray[np.uint32]]:
    """Order of the rows by their ranks, and the sorted ranks: of segment 0 (R,), of the others (K - 1, R)."""
    ids = np.empty((len(columns) - 1, len(columns[0])), np.uint32)
    bits = [max(1, (n - 1).bit_length()) for n in sizes]
    if sum(bits) > KEY_BITS:
        by = [rank[column] for rank, column in zip(ranks, columns, strict=True)]
        order = np.lexsort(by[::-1])
        for k in range(1, len(by)):
            ids[k - 1] = by[k][order]
        return order, by[0][order], ids
    key = np.zeros(len(columns[0]), np.uint64)
    for rank, column, width in zip(ranks, columns, bits, strict=True):
        key <<= np.uint64(width)
        key |= rank.astype(np.uint64)[column]
    order = np.argsort(key, kind="stable")
    key = key[order]
    for k in range(len(columns) - 1, 0, -1):
        np.bitwise_and(key, np.uint64((1 << bits[k]) - 1), out=ids[k - 1], casting="unsafe")
        key >>= np.uint64(bits[k])
    return order, key.view(np.int64), ids


def _pool_arrays(pools: list[Strings], separator: int) -> dict[str, NDArray[Any]]:
    """Tokens of all pools, each string with a separator behind it: its end needs no look-up."""
    highest = max([separator, *(int(p.flat.max()) for p in pools if p.flat.size)])
    lengths = np.concatenate([p.lengths for p in pools]) + 1
    off = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=off[1:])
    tok = np.empty(int(off[-1]), np.uint16 if highest < SMALL else np.uint32)
    inner = np.ones(len(tok), bool)
    inner[off[1:] - 1] = False
    tok[inner] = np.concatenate([p.flat for p in pools])
    tok[off[1:] - 1] = separator
    return {
        "tok": tok,
        "off": off.astype(_unsigned(len(tok))),
        "base": np.cumsum([0, *(len(p) for p in pools)]).astype(np.int64),
    }


def _values_of(values: NDArray[Any] | pa.Array, order: Ints) -> dict[str, NDArray[Any]]:
    if isinstance(values, np.ndarray):
        return {"values": values[order]}
    return _text_arrays("value", values.take(_arrow_ints(order)))


def _display(texts: Sequence[pa.Array], sources: list[Ints]) -> dict[str, NDArray[Any]]:
    import pyarrow as pa

    picked = [t.take(_arrow_ints(s)) for t, s in zip(texts, sources, strict=True)]
    return _text_arrays("text", pa.concat_arrays([p.cast(pa.large_string()) for p in picked]))


def _text_arrays(name: str, texts: pa.Array) -> dict[str, NDArray[Any]]:
    """UTF-8 bytes and offsets of a pyarrow string array."""
    import pyarrow as pa

    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    off = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    raw = np.frombuffer(data, np.uint8)[off[0] : off[-1]] if data else np.zeros(0, np.uint8)
    return {f"{name}_bytes": raw, f"{name}_offsets": (off - off[0]).astype(_unsigned(int(off[-1])))}


def _arrow_ints(numbers: Ints) -> pa.Array:
    import pyarrow as pa

    return pa.array(np.ascontiguousarray(numbers))


def _unsigned(highest: int) -> type[np.unsignedinteger[Any]]:
    return np.uint32 if highest < LARGE else np.uint64
