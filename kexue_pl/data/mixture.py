"""Batches from several sources of different size: one source a batch, or some of each in every batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch

__all__ = ["SAMPLINGS", "Sampling", "mixed_batches", "shares"]

Sampling = Literal["round_robin", "proportional", "temperature", "joint"]
SAMPLINGS: tuple[str, ...] = get_args(Sampling)


def shares(sizes: Sequence[int], batches: int, sampling: str, temperature: float) -> list[int]:
    r"""Batches of each source in an epoch, the same in every epoch.

    .. math:: p_s \propto n_s^{1/\tau}

    with :math:`\tau = 1` for ``proportional`` and equal shares for ``round_robin``; rounded by the
    largest remainders, never below 1 (so there may be a few batches more).

    Args:
        sizes: rows :math:`n_s` of the sources.
        batches: of an epoch.
        sampling: ``round_robin``, ``proportional`` or ``temperature``.
        temperature: :math:`\tau` > 0; more makes small sources come oftener.

    >>> shares([900, 100], 10, "proportional", 1.0), shares([900, 100], 10, "temperature", 2.0)
    ([9, 1], [8, 2])
    >>> shares([900, 100], 10, "round_robin", 1.0)
    [5, 5]
    """
    power = {"round_robin": 0.0, "proportional": 1.0}.get(sampling, 1 / temperature)
    mass = [size**power for size in sizes]
    exact = [batches * m / sum(mass) for m in mass]
    out = [max(1, int(x)) for x in exact]
    order = sorted(range(len(sizes)), key=lambda s: (out[s] - exact[s], s))
    for s in order[: max(0, batches - sum(out))]:
        out[s] += 1
    return out


def mixed_batches(
    sizes: Sequence[int],
    batch_size: int,
    *,
    sampling: str,
    temperature: float = 2.0,
    seed: int,
    epoch: int,
) -> list[list[int]]:
    """Global batches of an epoch over sources that lie one behind the other.

    Rows 0 ... n_0 - 1 are source 0's, the next n_1 source 1's, and so on. Every source is read in
    shuffled passes of its own that run on from epoch to epoch, so a small source is repeated and a
    large one is not cut off at the same place each time. The batches depend on the arguments alone:
    ranks split them and a resumed run finds its place.

    Args:
        sizes: rows of the sources, each >= 1.
        batch_size: rows of a batch; in ``joint`` batches split evenly, at least one row a source.
        sampling: ``round_robin`` (one source after the other), ``proportional`` to the sizes,
            ``temperature`` (see :func:`shares`), in an order drawn for each epoch, or ``joint``.
        temperature: of ``temperature``.
        seed: of the orders.
        epoch: counted from 0.

    Raises:
        ValueError: an unknown sampling, an empty source, or a temperature that is not positive.

    >>> [len(b) for b in mixed_batches([8, 4], 4, sampling="round_robin", seed=0, epoch=0)]
    [4, 4, 4, 4]
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"data.sampling={sampling!r}: expected shared, {', '.join(SAMPLINGS)}")
    if min(sizes) < 1 or temperature <= 0:
        raise ValueError(f"data.source_rows={list(sizes)} >= 1, data.temperature={temperature} > 0")
    sources, starts = len(sizes), [sum(sizes[:s]) for s in range(len(sizes))]
    count = max(1, sum(sizes) // batch_size)
    if sampling == "joint":
        each = max(1, batch_size // sources)
        parts = [
            _stream(sizes[s], starts[s], epoch * count * each, count * each, seed, s)
            for s in range(sources)
        ]
        return [
            [row for part in parts for row in part[i * each : (i + 1) * each]] for i in range(count)
        ]
    if sampling == "round_robin":
        count = -(-count // sources) * sources
    quota = shares(sizes, count, sampling, temperature)
    order = [i % sources for i in range(count)]
    if sampling != "round_robin":
        owners = torch.tensor([s for s, number in enumerate(quota) for _ in range(number)])
        order = owners[_permutation(len(owners), seed, sources, epoch)].tolist()
    streams = [
        iter(_stream(sizes[s], starts[s], epoch * q * batch_size, q * batch_size, seed, s))
        for s, q in enumerate(quota)
    ]
    return [[next(streams[s]) for _ in range(batch_size)] for s in order]


def _permutation(rows: int, seed: int, source: int, number: int) -> torch.Tensor:
    mixed = ((seed * 1_000_003 + source) * 1_000_003 + number) % 2**63
    return torch.randperm(rows, generator=torch.Generator().manual_seed(mixed))


def _stream(rows: int, start: int, begin: int, count: int, seed: int, source: int) -> list[int]:
    """Rows ``begin`` ... ``begin + count`` of a source's endless shuffled passes."""
    out: list[int] = []
    number, skip = divmod(begin, rows)
    while len(out) < count:
        out += (_permutation(rows, seed, source, number)[skip:] + start).tolist()
        number, skip = number + 1, 0
    return out[:count]
