"""Global batches for ranking losses: several label values in each, rows of like length together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["label_aware_batches"]

Rows = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

_SPAN = 32  # batches that are sorted by length together; more pads less and mixes less


def label_aware_batches(
    rows: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    labels: Sequence[float] | None = None,
    lengths: Sequence[int] | None = None,
) -> list[list[int]]:
    """Batches of row numbers of one epoch, a function of its arguments alone.

    With `labels`, a batch of one label value only, from which a ranking loss learns nothing, occurs
    only where it cannot be avoided: with n_r rows beside the commonest label value, at least
    `batches - n_r` batches must have one value, and no more do. Without `lengths` the label values
    are also spread evenly over the batches.

    With `lengths`, rows of like length share a batch. A batch-coupled loss then compares pairs of
    like length, which changes what is learned: it is an option, not a silent speed-up.

    Args:
        rows: N > 0. batch_size: rows of a batch over all ranks; where N is less, one batch of N
            rows.
        seed, epoch: of the order.
        labels: (N,) any values. lengths: (N,) for example tokens of both texts.

    Returns:
        N // batch_size batches of equal size without repeats, in every epoch as many; the rows left
        over differ between epochs, and rare labels are the last to be left over.

    >>> labels = [0, 0, 0, 0, 1, 1]
    >>> batches = label_aware_batches(6, 3, seed=0, epoch=0, labels=labels)
    >>> [sorted(labels[row] for row in batch) for batch in batches]
    [[0, 0, 1], [0, 0, 1]]
    """
    if rows < 1 or batch_size < 1:
        raise ValueError(f"batches of data.batch_size={batch_size} out of {rows} rows")
    for name, column in (("labels", labels), ("lengths", lengths)):
        if column is not None and len(column) != rows:
            raise ValueError(f"{len(column)} {name} for {rows} rows")
    rng = np.random.default_rng([seed % 2**32, epoch])
    size = min(batch_size, rows)
    count = rows // size
    codes = None if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    order = rng.permutation(rows) if codes is None else _spread(codes, rng)
    if codes is not None:
        order = _keep_rare(order, codes, count, size)
    order = order[: count * size]
    if lengths is not None:
        order = _by_length(order, np.asarray(lengths), size, rng)
    batches = order.reshape(count, size)
    if codes is not None and size > 1:
        _mend(batches, codes, np.zeros(rows) if lengths is None else np.asarray(lengths, float))
    return [batch.tolist() for batch in batches[rng.permutation(count)]]


def _spread(codes: Rows, rng: np.random.Generator) -> Rows:
    """A random order in which every stretch holds the label values in about their proportions."""
    places = np.empty(len(codes))
    shuffled = rng.permutation(len(codes))
    by_label = shuffled[np.argsort(codes[shuffled], kind="stable")]
    sizes = np.bincount(codes)
    start = np.repeat(np.cumsum(sizes) - sizes, sizes)
    number = np.arange(len(codes)) - start
    shift = rng.random(len(sizes))
    places[by_label] = (number + np.repeat(shift, sizes)) / np.repeat(sizes, sizes)
    return np.argsort(places, kind="stable")


def _keep_rare(order: Rows, codes: Rows, count: int, size: int) -> Rows:
    """Exchange rare rows beyond the last batch for common ones until there is one for each batch."""
    order = order.copy()
    common = codes[order] == np.bincount(codes).argmax()
    kept, over = np.split(np.arange(len(order)), [count * size])
    want = count - int((~common[kept]).sum())
    rare, plain = over[~common[over]], kept[common[kept]]
    n = max(0, min(want, len(rare), len(plain)))
    order[rare[:n]], order[plain[-n:] if n else []] = (
        order[plain[-n:] if n else []],
        order[rare[:n]],
    )
    return order


def _by_length(order: Rows, lengths: Rows, size: int, rng: np.random.Generator) -> Rows:
    """Sort each stretch of a random order by length, so that batches cut from it are of like length."""
    order = rng.permutation(order)
    stretch = np.arange(len(order)) // (size * _SPAN)
    return order[np.lexsort((lengths[order], stretch))]


def _mend(batches: Rows, codes: Rows, lengths: Numbers) -> None:
    """Give each batch of one label value a row of another, in place, as long as there is one to spare.

    A batch can spare a row for one of value a if two of its rows are not of value a: it keeps one
    of these and receives an a. If as many rows are not of value a as there are batches, then some
    batch has two of them whenever another has none, so no repair is missed.
    """
    kinds = codes[batches]
    single = (kinds == kinds[:, :1]).all(axis=1)
    means = lengths[batches].mean(axis=1)
    for value in np.unique(kinds[single, 0]):
        others = (codes[batches] != value).sum(axis=1)
        donors = np.flatnonzero(others >= 2)
        donors = donors[np.argsort(means[donors], kind="stable")].tolist()
        keys = means[donors].tolist()
        for poor in np.flatnonzero(others == 0):
            if not donors:
                break
            near = min(bisect_left(keys, means[poor]), len(donors) - 1)
            donor = donors[near]
            _exchange(batches, int(poor), donor, codes, lengths, int(value))
            others[donor] -= 1
            if others[donor] < 2:
                del donors[near], keys[near]


def _exchange(
    batches: Rows, poor: int, donor: int, codes: Rows, lengths: Numbers, value: int
) -> None:
    """Swap the row of `donor` that fits `poor` best in length, and is not of `value`, for one of it."""
    gap = np.abs(lengths[batches[donor]] - lengths[batches[poor]].mean())
    give = int(np.where(codes[batches[donor]] == value, np.inf, gap).argmin())
    take = int(np.abs(lengths[batches[poor]] - lengths[batches[donor]].mean()).argmin())
    batches[poor, take], batches[donor, give] = batches[donor, give], batches[poor, take]
