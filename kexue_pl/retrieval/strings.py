"""Ragged token strings: the pools of distinct segments a prefix index is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Strings:
    """Token strings of unequal length laid end to end.

    Args:
        flat: all tokens, (T,) integers.
        offsets: (N + 1,) int64; string i is ``flat[offsets[i]:offsets[i + 1]]``.

    Example:
        >>> s = Strings.of([[7, 8], [], [9]])
        >>> len(s), s[0], s[1], s.lengths.tolist()
        (3, [7, 8], [], [2, 0, 1])
    """

    flat: NDArray[np.integer]
    offsets: Ints

    @classmethod
    def of(cls, strings: Iterable[Sequence[int]]) -> Strings:
        """Strings from any iterable of token id sequences."""
        rows = list(strings)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        flat = np.fromiter((t for row in rows for t in row), np.int64, int(offsets[-1]))
        return cls(flat, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> list[int]:
        tokens: list[int] = self.flat[self.offsets[index] : self.offsets[index + 1]].tolist()
        return tokens

    @property
    def lengths(self) -> Ints:
        """Length of each string in tokens, (N,) int64."""
        return np.diff(self.offsets)

    def take(self, order: Ints) -> Strings:
        """The strings ``order[0], order[1], …`` as new contiguous storage."""
        lengths = self.lengths[order]
        offsets = np.zeros(len(order) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Strings(self.flat[ragged_ranges(self.offsets[order], lengths)], offsets)

    def order(self) -> Ints:
        """Indices that sort the strings lexicographically, a prefix before its extensions.

        Big-endian bytes compare as the token sequences do, so Arrow's binary sort does the work.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        wide = ">u2" if self.flat.size == 0 or int(self.flat.max()) < 1 << 16 else ">u4"
        size = int(wide[-1])
        buffers = [
            None,
            pa.py_buffer(self.offsets * size),
            pa.py_buffer(self.flat.astype(wide)),
        ]
        array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self), buffers)
        return np.asarray(pc.sort_indices(array).to_numpy(), np.int64)

    def differs_from_previous(self) -> NDArray[np.bool_]:
        """Whether string i is unequal to string i - 1, (N,) bool; the first one always is."""
        lengths = self.lengths
        new = np.ones(len(self), bool)
        same = np.flatnonzero(lengths[1:] == lengths[:-1]) + 1
        if len(same) == 0:
            return new
        size = lengths[same]
        here = self.flat[ragged_ranges(self.offsets[same], size)]
        before = self.flat[ragged_ranges(self.offsets[same - 1], size)]
        unequal = np.zeros(len(here) + 1, np.int64)
        np.cumsum(here != before, out=unequal[1:])
        ends = np.cumsum(size)
        new[same] = unequal[ends] != unequal[ends - size]
        return new


def ragged_ranges(starts: Ints, lengths: Ints) -> Ints:
    """``starts[0] … starts[0] + lengths[0] - 1, starts[1] …`` in one array, no Python per range.

    Example:
        >>> ragged_ranges(np.array([5, 9]), np.array([3, 2])).tolist()
        [5, 6, 7, 9, 10]
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - ends + lengths, lengths)


def scattered(numbers: Ints) -> Ints:
    """Distinct numbers below 2^32 for distinct numbers below 2^32, in no order: breaks ties blindly.

    Example:
        >>> scattered(np.array([0, 1, 2, 3])).argsort().tolist()
        [0, 3, 1, 2]
    """
    x = numbers.astype(np.uint64) & np.uint64(0xFFFFFFFF)
    for factor in (0x9E3779B1, 0x85EBCA6B):  # odd: each step is a bijection
        x = (x * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
        x ^= x >> np.uint64(15)
    return x.astype(np.int64)
