"""A shuffled order of any number of rows that takes no memory: any part of it on its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Permutation", "ShuffledBatches"]

_ROUNDS = 6
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Permutation:
    """A bijection of 0 ... n - 1 drawn from (seed, epoch), computed place by place.

    A Feistel network over the smallest even number of bits that holds n; a value beyond n is sent
    through again until it falls below (cycle walking), which keeps the map one to one. So the
    order of 10^9 rows costs no memory, and a rank or a resumed run computes its own places only.

    Source: Luby and Rackoff, SIAM J. Comput. 17 (1988), for the network; Black and Rogaway, CT-RSA
    2002, for cycle walking.

    Args:
        rows: n, at least 1.
        seed: of the order.
        epoch: another order for each.

    >>> order = Permutation(10, seed=0, epoch=0)
    >>> sorted(order(np.arange(10)).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    def __init__(self, rows: int, *, seed: int, epoch: int) -> None:
        if rows < 1:
            raise ValueError(f"rows={rows}: must be at least 1")
        self.rows = rows
        self.half = np.uint64(max(1, -(-(rows - 1).bit_length() // 2)))
        self.mask = np.uint64((1 << int(self.half)) - 1)
        key = hashlib.sha256(f"{seed}/{epoch}".encode()).digest() * 2
        self.keys = np.frombuffer(key[: 8 * _ROUNDS], np.uint64)

    def __call__(self, places: NDArray[np.integer]) -> NDArray[np.int64]:
        """Rows (N,) at places (N,) of the order."""
        value = self._once(places.astype(np.uint64))
        while len(beyond := np.flatnonzero(value >= self.rows)):
            value[beyond] = self._once(value[beyond])
        return value.astype(np.int64)

    def _once(self, value: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = value >> self.half, value & self.mask
        with np.errstate(over="ignore"):
            for key in self.keys:
                mixed = (right + key) * _MIX
                mixed = (mixed ^ (mixed >> np.uint64(29))) * _MIX
                left, right = right, left ^ ((mixed >> np.uint64(32)) & self.mask)
        return (left << self.half) | right


class ShuffledBatches(Sequence[list[int]]):
    """Full global batches of a shuffled epoch, each computed when it is asked for.

    Rows that do not fill a last batch wait for another epoch, whose order differs. With fewer rows
    than ``batch_size`` the epoch is one batch of all rows.

    Args:
        rows: number of rows.
        batch_size: rows of a batch over all ranks.
        seed: of the order.
        epoch: another order for each.

    >>> batches = ShuffledBatches(10, 4, seed=0, epoch=0)
    >>> len(batches), len(batches[1]), batches[1:][0] == batches[1]
    (2, 4, True)
    """

    def __init__(self, rows: int, batch_size: int, *, seed: int, epoch: int) -> None:
        self.order = Permutation(rows, seed=seed, epoch=epoch)
        self.size = min(batch_size, rows)
        self.numbers = range(rows // self.size)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...

    @overload
    def __getitem__(self, index: slice) -> ShuffledBatches: ...

    def __getitem__(self, index: int | slice) -> list[int] | ShuffledBatches:
        if isinstance(index, slice):
            part = object.__new__(ShuffledBatches)
            part.order, part.size, part.numbers = self.order, self.size, self.numbers[index]
            return part
        first = self.numbers[index] * self.size
        rows: list[int] = self.order(np.arange(first, first + self.size)).tolist()
        return rows

    def __iter__(self) -> Iterator[list[int]]:
        return (self[number] for number in range(len(self)))
