"""Task losses over all ranks: what is there, what it weighs, what is broken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kexue_pl.distributed import world_size
from kexue_pl.gradients.ranks import sum_ranks


@dataclass(frozen=True)
class GlobalLosses:
    """Losses of the joint batch, and this rank's share in them.

    Attributes:
        values: (T,) float64 on the CPU: means over all ranks; NaN where no rank has the task.
        factors: (T,) what to multiply the local losses by, so that the average of the gradients over
            ranks is the gradient of ``values``.
        counts: (T,) examples over all ranks.
        terms: the local losses that take part, scaled; None where absent or quarantined.
    """

    values: Tensor
    factors: list[float]
    counts: Tensor
    terms: list[Tensor | None]

    def total(self) -> Tensor | None:
        """Sum of the terms; None when this rank has none."""
        held = [term for term in self.terms if term is not None]
        return (
            torch.stack(held).sum() if len(held) > 2 else sum(held[1:], held[0]) if held else None
        )


def global_losses(
    losses: Sequence[Tensor | None], counts: Sequence[float] | None = None
) -> GlobalLosses:
    r"""Reduce the local mean losses of T tasks over ranks.

    .. math:: L_t = \frac{\sum_r c_{rt} L_{rt}}{\sum_r c_{rt}}, \qquad
        f_{rt} = \frac{W c_{rt}}{\sum_r c_{rt}}

    with :math:`c_{rt}` the examples that rank r of W has for task t. A task whose global loss is not
    finite is quarantined: it has no term on any rank. When **no** task is finite all terms stay, so
    that a loss scaler or finite guard sees the overflow and skips the step.

    Args:
        losses: T scalars, None where the local batch has nothing for the task.
        counts: T local numbers of examples; None counts every present task as 1 (equal batches).

    Raises:
        ValueError: lengths differ, a loss is not a scalar, or has a negative count.

    >>> out = global_losses([torch.tensor(2.0), None])
    >>> out.values.tolist(), out.factors
    ([2.0, nan], [1.0, 0.0])
    """
    share = [float(loss is not None) for loss in losses] if counts is None else list(counts)
    if len(share) != len(losses):
        raise ValueError(f"{len(losses)} losses but {len(share)} counts")
    for index, (loss, count) in enumerate(zip(losses, share)):
        if loss is not None and loss.dim() != 0:
            raise ValueError(f"loss of task {index} has shape {tuple(loss.shape)}, not a scalar")
        if count < 0 or (loss is None and count > 0):
            raise ValueError(f"task {index} has count {count} and loss {loss}")
    weight = torch.tensor(share, dtype=torch.float64)
    local = _numbers(losses)
    if world_size() == 1:
        numbers = [x if count > 0 else math.nan for x, count in zip(local, share)]
        values, total = torch.tensor(numbers, dtype=torch.float64), weight
        factors = [float(count > 0) for count in share]
    else:
        known = torch.where(weight > 0, torch.tensor(local, dtype=torch.float64), 0.0)
        sums = _reduced(torch.stack([known * weight, weight]), losses)
        values, total = sums[0] / sums[1], sums[1]
        factors = torch.where(total > 0, weight * world_size() / total, 0.0).tolist()
        numbers = values.tolist()
    finite = [math.isfinite(value) for value in numbers]
    keep = finite if any(finite) else [True] * len(finite)
    terms = [
        None if loss is None or not keep[i] or factors[i] == 0 else scaled(loss, factors[i])
        for i, loss in enumerate(losses)
    ]
    return GlobalLosses(values, factors, total, terms)


def _numbers(losses: Sequence[Tensor | None]) -> list[float]:
    """The losses as numbers, 0 where there is none; one transfer from the device for all."""
    held = [loss.detach() for loss in losses if loss is not None]
    if len({loss.dtype for loss in held}) > 1:
        held = [loss.double() for loss in held]
    found = iter(torch.stack(held).tolist() if held else [])
    return [0.0 if loss is None else next(found) for loss in losses]


def scaled(loss: Tensor, factor: float) -> Tensor:
    """``factor * loss``, bit for bit the loss itself when the factor is 1.

    >>> loss = torch.tensor(3.0)
    >>> scaled(loss, 1.0) is loss, float(scaled(loss, 0.5))
    (True, 1.5)
    """
    return loss if factor == 1 else loss * factor


def _reduced(sums: Tensor, losses: Sequence[Tensor | None]) -> Tensor:
    """Sum over ranks on the device the process group works on."""
    if world_size() == 1:
        return sums
    device = next((x.device for x in losses if x is not None), None)
    if device is None and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    return sum_ranks(sums.to(device or "cpu")).cpu()
