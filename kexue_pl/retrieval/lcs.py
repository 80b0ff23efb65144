"""Longest common subsequences of many pairs at once, one bit a column of the table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval.strings import Ints, Strings

Words = NDArray[np.uint64]
WORD = 64
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


def start_rows(batch: int, words: int) -> Words:
    """The table's row before any token, (batch, words): every bit one."""
    return np.full((batch, words), FULL, np.uint64)


def match_masks(columns: Strings, vocabulary: int) -> Words:
    """Where each token stands in each string, (B, vocabulary, W) uint64.

    Bit j of the words says whether token j of string b is that token; W = ceil(longest / 64).

    Example:
        >>> match_masks(Strings.of([[1, 0, 1]]), 2)[0, :, 0].tolist()
        [2, 5]
    """
    words = max(1, -(-int(columns.lengths.max(initial=1)) // WORD))
    masks = np.zeros((len(columns), vocabulary, words), np.uint64)
    row = np.repeat(np.arange(len(columns)), columns.lengths)
    at = np.arange(len(row)) - columns.offsets[row]
    bit = np.left_shift(np.uint64(1), (at % WORD).astype(np.uint64))
    np.bitwise_or.at(masks, (row, columns.flat.astype(np.int64), at // WORD), bit)
    return masks


def advance(rows: Words, match: Words) -> Words:
    """Rows of the table after one more token: V <- (V + (V & m)) | (V & ~m).

    Hyyrö's recurrence; bit j of V is 0 where the table rises at column j.

    Args:
        rows: (N, W) uint64.
        match: (N, W) uint64, the mask of the token in each string.
    """
    taken = rows & match
    total = rows + taken
    if rows.shape[1] > 1:
        carry = total[:, 0] < rows[:, 0]
        for word in range(1, rows.shape[1]):
            first = total[:, word] < rows[:, word]
            total[:, word] += carry
            carry = first | ((total[:, word] == 0) & carry)
    return np.asarray(total | (rows & ~match))


def lengths(rows: Words, columns: Ints) -> Ints:
    """Length of the subsequence so far, (N,): the zero bits among the first ``columns`` (N,)."""
    used = columns[:, None] - WORD * np.arange(rows.shape[1])
    full = used >= WORD
    shift = np.clip(used, 0, WORD - 1).astype(np.uint64)
    mask = np.where(full, FULL, np.left_shift(np.uint64(1), shift) - np.uint64(1))
    return np.asarray(np.bitwise_count(~rows & mask).sum(1, dtype=np.int64))


def run(rows: Words, masks: Words, of: Ints, strings: Strings) -> Words:
    """Rows after whole strings.

    Args:
        rows: (N, W), where each string starts from.
        masks: (B, vocabulary, W).
        of: (N,), which of the B masks each string is compared with.
        strings: N token strings.
    """
    order = np.argsort(-strings.lengths, kind="stable")
    size = strings.lengths[order]
    start, of = strings.offsets[:-1][order], of[order]
    out = rows[order]
    for step in range(int(size[0]) if len(size) else 0):
        alive = int(np.searchsorted(-size, -step, side="left"))
        token = strings.flat[start[:alive] + step]
        out[:alive] = advance(out[:alive], masks[of[:alive], token])
    back = np.empty_like(out)
    back[order] = out
    return back


def lcs_table(left: Sequence[str], right: Sequence[str]) -> NDArray[np.uint8]:
    """LCS length of every pair of texts, (len(left), len(right)) uint8, capped at 255.

    Example:
        >>> lcs_table(["主要讲什么课", ""], ["主讲课程", "课"]).tolist()
        [[3, 1], [0, 0]]
    """
    alphabet = {c: i for i, c in enumerate(sorted(set("".join(right))))}
    outside = len(alphabet)
    columns = Strings.of([[alphabet.get(c, outside) for c in text] for text in left])
    masks = match_masks(columns, outside + 1)
    out = np.empty((len(left), len(right)), np.uint8)
    for j, text in enumerate(right):
        rows = start_rows(len(left), masks.shape[2])
        for c in text:
            rows = advance(rows, masks[:, alphabet[c]])
        out[:, j] = np.minimum(lengths(rows, columns.lengths), 255)
    return out


def lcs_pairs(left: Sequence[str], right: Sequence[str]) -> Ints:
    """LCS length of ``left[i]`` with ``right[i]``, (N,) int64.

    Example:
        >>> lcs_pairs(["abcd", "x"], ["acxd", "y"]).tolist()
        [3, 0]
    """
    alphabet: dict[str, int] = {}
    encode = [[alphabet.setdefault(c, len(alphabet)) for c in text] for text in right]
    outside = len(alphabet)
    columns = Strings.of([[alphabet.get(c, outside) for c in text] for text in left])
    strings, words = Strings.of(encode), max(1, -(-int(columns.lengths.max(initial=1)) // WORD))
    return _positions(columns, strings, words)


def _positions(columns: Strings, strings: Strings, words: int) -> Ints:
    """Pairs share no masks, so each step compares one token with the whole other string."""
    width = int(columns.lengths.max(initial=0))
    grid = np.full((len(columns), words * WORD), -1, np.int64)
    filled = np.arange(width) < columns.lengths[:, None]
    grid[:, :width][filled] = columns.flat
    weight = np.left_shift(np.uint64(1), np.arange(WORD, dtype=np.uint64))
    order = np.argsort(-strings.lengths, kind="stable")
    size, start, grid = strings.lengths[order], strings.offsets[:-1][order], grid[order]
    rows = start_rows(len(columns), words)
    for step in range(int(size[0]) if len(size) else 0):
        alive = int(np.searchsorted(-size, -step, side="left"))
        token = strings.flat[start[:alive] + step]
        equal = (grid[:alive] == token[:, None]).reshape(alive, words, WORD)
        match = (equal * weight).sum(-1, dtype=np.uint64)
        rows[:alive] = advance(rows[:alive], match)
    out = np.empty(len(columns), np.int64)
    out[order] = lengths(rows, columns.lengths[order])
    return out
