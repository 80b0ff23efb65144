"""Global batches with like lengths, or with several label values in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["bucketed", "mend_single_label", "pair_batches", "spread_labels"]


def pair_batches(
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    labels: Sequence[float] | None = None,
    lengths: Sequence[int] | None = None,
    rows: int,
) -> list[list[int]]:
    """Batches of row numbers of one epoch, drawn from (seed, epoch) alone.

    Args:
        batch_size: rows of a batch; rows that do not fill a last batch wait for another epoch.
        seed: of the order.
        epoch: of the order.
        labels: where given, no batch has one label value only if that can be avoided.
        lengths: where given, rows of like length share a batch.
        rows: number of rows.

    >>> batches = pair_batches(2, seed=0, epoch=0, labels=[0, 0, 0, 0, 1, 1], rows=6)
    >>> sum(len(set([0, 0, 0, 0, 1, 1][i] for i in b)) == 2 for b in batches)
    2
    """
    rng = np.random.default_rng([seed % 2**32, epoch])
    size = min(batch_size, rows)
    order = rng.permutation(rows) if labels is None else spread_labels(labels, rng)
    count = rows // size
    batches = [order[i * size : (i + 1) * size] for i in range(count)]
    if lengths is not None:
        batches = bucketed(batches, lengths, rng)
    lists = [batch.tolist() for batch in batches]
    return lists if labels is None else mend_single_label(lists, labels)


def spread_labels(labels: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """A random order in which every stretch has the label values in about their proportions.

    The rows of a label value of n rows, shuffled, get the places (k + r) / n with one random r for
    the label value; all rows are ordered by their places.
    """
    values = np.asarray(labels)
    places = np.empty(len(values))
    for value in np.unique(values):
        members = rng.permutation(np.flatnonzero(values == value))
        places[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(places, kind="stable")


def bucketed(
    batches: list[np.ndarray], lengths: Sequence[int], rng: np.random.Generator, span: int = 10
) -> list[np.ndarray]:
    """Regroup the rows of every ``span`` batches by length; the order of batches stays random.

    A batch-coupled loss then compares pairs of like length, which changes what is learned: an
    option, not a silent speed-up.
    """
    sizes = np.asarray(lengths)
    out: list[np.ndarray] = []
    for start in range(0, len(batches), span):
        rows = np.concatenate(batches[start : start + span])
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        parts = np.split(rows, range(len(batches[0]), len(rows), len(batches[0])))
        out += [parts[i] for i in rng.permutation(len(parts))]
    return out


def mend_single_label(batches: list[list[int]], labels: Sequence[float]) -> list[list[int]]:
    """Exchange single rows until no batch has one label value only, as far as that is possible.

    A row is taken from a batch that keeps at least two label values, or one batch of another single
    value mends both. Everything is deterministic.
    """
    kinds = [{labels[row] for row in batch} for batch in batches]
    for poor, batch in enumerate(batches):
        if len(kinds[poor]) > 1 or len(batch) < 2:
            continue
        own = labels[batch[0]]
        for step in range(1, len(batches)):
            rich = (poor + step) % len(batches)
            place = _spare(batches[rich], labels, own)
            if place is None:
                continue
            batch[-1], batches[rich][place] = batches[rich][place], batch[-1]
            kinds[poor] = {labels[row] for row in batch}
            kinds[rich] = {labels[row] for row in batches[rich]}
            break
    return batches


def _spare(batch: list[int], labels: Sequence[float], own: float) -> int | None:
    """Place of a row with a label other than ``own`` that its batch can give for one of ``own``."""
    for place, row in enumerate(batch):
        if labels[row] == own:
            continue
        # In exchange the batch receives a row of label `own`.
        rest = {labels[other] for i, other in enumerate(batch) if i != place} | {own}
        if len(rest) > 1:
            return place
    return None
