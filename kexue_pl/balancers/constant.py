"""Weights set by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer


class Constant(Balancer):
    r"""Fixed weights: :math:`L = \sum_i a_i L_i` with :math:`a_i` given.

    Args:
        values: (T,) finite weights, one a task.

    Raises:
        ValueError: a weight is not finite, or their number differs from the number of tasks.

    >>> import torch
    >>> Constant([1.0, 0.1]).weights(None, torch.tensor([2.0, 5.0])).tolist()
    [1.0, 0.1]
    """

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        self.values = checked(values, "balancer.values")

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The given weights of the live tasks."""
        return pick(self.values, tasks, self._total, "balancer.values")


def checked(values: Sequence[float], name: str) -> Tensor:
    """Finite numbers as a float64 tensor.

    >>> checked([1, 2], "x").tolist()
    [1.0, 2.0]
    """
    out = torch.tensor([float(v) for v in values], dtype=torch.float64)
    if len(out) == 0 or not bool(out.isfinite().all()):
        raise ValueError(f"{name}={list(values)} must be finite numbers, one a task")
    return out


def pick(values: Tensor, tasks: Tensor, total: int, name: str) -> Tensor:
    """The entries of the live tasks, after comparing the count with the number of tasks.

    >>> import torch
    >>> pick(torch.tensor([1.0, 2.0]), torch.tensor([1]), 2, "x").tolist()
    [2.0]
    """
    if len(values) != total:
        raise ValueError(f"{name} has {len(values)} entries for {total} tasks; give one a task")
    return values[tasks]
