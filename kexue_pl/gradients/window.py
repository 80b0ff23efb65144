"""Gradient accumulation that equals the big batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.distributed import world_size
from kexue_pl.gradients.fan_out import FanOut, fan_out
from kexue_pl.gradients.gram import gram_matrix
from kexue_pl.gradients.losses import scaled
from kexue_pl.gradients.ranks import sum_ranks

B = TypeVar("B")
Losses = tuple[Sequence[Tensor | None], Sequence[float]]
Heads = Callable[[Sequence[Tensor], B], Losses]


def window_backward(
    batches: Sequence[B],
    rule: Balancer,
    *,
    tasks: int,
    encode: Callable[[B], Tensor],
    heads: Heads[B],
    backward: Callable[[Tensor, int], None] = lambda loss, index: loss.backward(),  # type: ignore[no-untyped-call]
) -> FanOut:
    r"""Accumulate a window of micro-batches with the weights of the **whole** window.

    Weights taken micro-batch by micro-batch are not those of the big batch (off by 0.2 for the
    reciprocal norm). Here the encodings are computed first without graph, the heads' gradients of
    all micro-batches give one Gram :math:`\sum_m D_m A_m A_m^\top D_m` (:math:`D_m` the share of each
    task's examples), and then every micro-batch runs backward with the weights fixed: one encoder and
    head pass more, no more memory. Random numbers are replayed, so dropout agrees; layers that update
    statistics in the forward pass (BatchNorm) would update twice: keep them out.

    Args:
        batches: the micro-batches of the window.
        rule: any rule that works on a Gram.
        tasks: T.
        encode: batch -> encoding.
        heads: (views, batch) -> T local mean losses (None where absent) and T local counts.
        backward: runs one micro-batch's backward; gets the total and the micro-batch's index.

    Returns:
        The last fan-out, with ``gram``, ``losses`` and ``weights`` of the window.

    Raises:
        ValueError: an empty window.

    >>> from kexue_pl.balancers import MGDA
    >>> z = torch.ones(2, dtype=torch.float64, requires_grad=True)
    >>> fan = window_backward(
    ...     [0, 1], MGDA(), tasks=2, encode=lambda i: z * 1.0,
    ...     heads=lambda v, i: ([v[0][0], 2 * v[1][1]], [1.0, 1.0]))
    >>> z.grad.round(decimals=4).tolist()
    [0.8, 0.4]
    """
    if not batches:
        raise ValueError("window_backward got no batch")
    window = [_observe(batch, tasks, encode, heads) for batch in batches]
    total = sum_ranks(torch.stack([part.counts for part in window]).sum(0))
    losses = sum_ranks(torch.stack([part.sums for part in window]).sum(0)) / total
    shares = [torch.where(total > 0, part.counts * world_size() / total, 0.0) for part in window]
    grams = [d[:, None] * part.gram * d[None, :] for d, part in zip(shares, window)]
    gram = sum_ranks(torch.stack(grams).sum(0)) / world_size() ** 2
    weights = rule.weights(gram, losses)
    keep = losses.isfinite() if bool(losses.isfinite().any()) else torch.ones(tasks).bool()
    for index, (batch, part, share) in enumerate(zip(batches, window, shares)):
        _replay(part.random)
        fan = fan_out(encode(batch), None, tasks=tasks, weights=weights)
        terms, _ = heads(fan.views, batch)
        chosen = [
            scaled(term, float(share[t]))
            for t, term in enumerate(terms)
            if term is not None and bool(keep[t])
        ]
        backward(fan.close(sum(chosen[1:], chosen[0]) if chosen else None), index)
    fan.gram, fan.losses = gram, losses
    return fan


@dataclass(frozen=True)
class _Part:
    """What the first pass keeps of a micro-batch."""

    random: list[Tensor]
    gram: Tensor
    counts: Tensor
    sums: Tensor


def _observe(batch: B, tasks: int, encode: Callable[[B], Tensor], heads: Heads[B]) -> _Part:
    """Gram of one micro-batch's encoding, without the encoder's graph."""
    random = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    with torch.no_grad():
        encoding = encode(batch)
    views = [encoding.detach().clone().requires_grad_() for _ in range(tasks)]
    terms, counts = heads(views, batch)
    present = [term for term in terms if term is not None]
    rows = [torch.zeros_like(view) for view in views]
    if present:
        found = torch.autograd.grad(sum(present[1:], present[0]), views, allow_unused=True)
        rows = [row if new is None else new for row, new in zip(rows, found)]
    share = torch.tensor(list(counts), dtype=torch.float64)
    values = torch.stack(
        [torch.zeros(()) if x is None else x.detach().double().cpu() for x in terms]
    )
    sums = torch.where(share > 0, values, 0.0) * share
    return _Part(random, gram_matrix(torch.stack(rows)).cpu(), share, sums)


def _replay(states: list[Tensor]) -> None:
    """Set the random numbers back to where the first pass had them."""
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])
