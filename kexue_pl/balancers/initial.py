"""Reciprocal of the loss at the start of training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer, positive
from kexue_pl.balancers.constant import checked, pick


class Initial(Balancer):
    r"""Weight each task by the reciprocal of its loss at initialisation, :math:`a_i = 1/L_i(0)`.

    Article 8870 (kexue.fm/archives/8870), "initial state". The losses are given (an analytic value:
    :math:`\log K` for K classes, :math:`E\lVert y\rVert^2` for L2 regression with output 0) or
    measured as the mean of the first ``steps`` calls; a task that is absent at first is measured
    when it appears.

    Args:
        losses: (T,) positive starting losses, or None to measure them.
        steps: calls to average over when measuring, >= 1.

    Raises:
        ValueError: a starting loss is zero or negative (K = 1 gives log 1 = 0).

    >>> import torch
    >>> rule = Initial()
    >>> rule.weights(None, torch.tensor([2.0, 4.0])).tolist()
    [0.5, 0.25]
    >>> rule.weights(None, torch.tensor([1.0, 1.0])).tolist()
    [0.5, 0.25]
    """

    needs_losses = True

    def __init__(self, losses: Sequence[float] | None = None, *, steps: int = 1) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"balancer.steps={steps} must be at least 1")
        self.steps = steps
        self.losses: Tensor | None = None
        if losses is not None:
            self.losses = checked(losses, "balancer.losses")
            positive(self.losses, torch.arange(len(self.losses)), self.name)

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """1 / the starting losses."""
        if self.losses is not None:
            return 1 / pick(self.losses, tasks, self._total, "balancer.losses")
        assert losses is not None
        total, seen = self._per_task("total", 0.0), self._per_task("seen", 0.0)
        fresh = seen[tasks] < self.steps
        total[tasks[fresh]] += losses[fresh]
        seen[tasks[fresh]] += 1
        return 1 / positive(total[tasks] / seen[tasks], tasks, self.name)


def uniform_loss(classes: int) -> float:
    r"""Cross-entropy of a uniform guess, :math:`\log K`: the analytic start of a classifier.

    Raises:
        ValueError: fewer than two classes.

    >>> round(uniform_loss(10), 4)
    2.3026
    """
    if classes < 2:
        raise ValueError(f"classes={classes}: one class has loss log 1 = 0 and cannot be weighted")
    return math.log(classes)
