"""Longest common subsequences of many pairs at once, one bit a column of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval.strings import Ints, Strings

Words = NDArray[np.uint64]
WORD = 64
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


def start_rows(batch: int, words: int) -> Words:
    """The table's row before any token, (batch, words): every bit one."""
    return np.full((batch, words), FULL, np.uint64)


@dataclass(frozen=True)
class Masks:
    """Where each token stands in each of B strings, of the tokens that occur in any of them.

    Args:
        words: (B, D + 1, W) uint64; bit j says whether token j of string b is the token of that
            slot; W = ceil(longest / 64). Slot 0 is for tokens that occur nowhere.
        slot: (vocabulary,) int32, the slot of each token.
    """

    words: Words
    slot: NDArray[np.int32]

    @property
    def width(self) -> int:
        """Words a row of the table, W."""
        return int(self.words.shape[2])

    def at(self, string: Ints | slice, token: NDArray[np.integer] | int) -> Words:
        """Masks of tokens in strings, (N, W)."""
        return np.asarray(self.words[string, self.slot[token]])


def match_masks(columns: Strings, vocabulary: int) -> Masks:
    """The masks of strings over token ids below ``vocabulary``.

    Example:
        >>> match_masks(Strings.of([[1, 0, 1]]), 3).at(np.array([0, 0, 0]), np.arange(3)).tolist()
        [[2], [5], [0]]
    """
    width = max(1, -(-int(columns.lengths.max(initial=1)) // WORD))
    known, number = np.unique(columns.flat, return_inverse=True)
    slot = np.zeros(vocabulary, np.int32)
    slot[known] = np.arange(1, len(known) + 1)
    words = np.zeros((len(columns), len(known) + 1, width), np.uint64)
    row = np.repeat(np.arange(len(columns)), columns.lengths)
    at = np.arange(len(row)) - columns.offsets[row]
    bit = np.left_shift(np.uint64(1), (at % WORD).astype(np.uint64))
    np.bitwise_or.at(words, (row, number + 1, at // WORD), bit)
    return Masks(words, slot)


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


def run(rows: Words, masks: Masks, of: Ints, strings: Strings) -> Words:
    """Rows after whole strings.

    A token that does not occur in the other string changes nothing: it is left out beforehand.

    Args:
        rows: (N, W), where each string starts from.
        masks: those of B strings.
        of: (N,), which of the B strings each one is compared with.
        strings: N token strings.
    """
    number = np.repeat(np.arange(len(rows)), strings.lengths)
    match = masks.at(of[number], strings.flat)
    hits = np.flatnonzero(match.any(1))
    match, size = match[hits], np.bincount(number[hits], minlength=len(rows))
    order = np.argsort(-size, kind="stable")
    start, size = (np.cumsum(size) - size)[order], size[order]
    out = rows[order]
    for step in range(int(size[0]) if len(size) else 0):
        alive = int(np.searchsorted(-size, -step, side="left"))
        out[:alive] = advance(out[:alive], match[start[:alive] + step])
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
        rows = start_rows(len(left), masks.width)
        for c in text:
            rows = advance(rows, masks.at(slice(None), alphabet[c]))
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
