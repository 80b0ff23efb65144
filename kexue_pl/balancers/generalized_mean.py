"""Generalised (power) mean of the losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer, positive


class GeneralizedMean(Balancer):
    r"""Minimise the power mean of the losses.

    .. math:: L(\gamma) = \Big(\frac1T \sum_i L_i^\gamma\Big)^{1/\gamma}, \quad
        a_i = \partial L / \partial L_i = L(\gamma)^{1-\gamma} L_i^{\gamma-1} / T

    Article 8870 (kexue.fm/archives/8870). :math:`\gamma = 1` is the mean, :math:`\to 0` the
    geometric mean, :math:`\to -\infty` the minimum, :math:`\to +\infty` the maximum. Everything is
    done in logs, so neither many nor large losses overflow. The direction is free of a task's scale
    only at :math:`\gamma = 0`; :math:`\gamma < 0` favours the task with the smallest loss.

    Args:
        gamma: exponent, any finite number.

    Raises:
        ValueError: ``gamma`` is not finite, or a loss is zero or negative.

    >>> import torch
    >>> GeneralizedMean(gamma=1.0).weights(None, torch.tensor([1.0, 3.0])).tolist()
    [0.5, 0.5]
    >>> [round(w, 4) for w in GeneralizedMean(gamma=2.0).weights(None, torch.tensor([1.0, 7.0])).tolist()]
    [0.1, 0.7]
    """

    needs_losses = True

    def __init__(self, gamma: float = 0.5) -> None:
        super().__init__()
        if not math.isfinite(gamma):
            raise ValueError(f"balancer.gamma={gamma} must be finite")
        self.gamma = float(gamma)

    def value(self, losses: Tensor) -> Tensor:
        """The mean itself, differentiable; (T,) -> 0-d.

        >>> import torch
        >>> round(float(GeneralizedMean(gamma=0.0).value(torch.tensor([1.0, 4.0]))), 4)
        2.0
        """
        return power_mean(losses.log(), self.gamma).exp()

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The derivative of the mean with respect to each loss."""
        assert losses is not None
        logs = positive(losses, tasks, self.name).log()
        mean = power_mean(logs, self.gamma)
        return ((1 - self.gamma) * mean + (self.gamma - 1) * logs).exp() / len(logs)


def power_mean(logs: Tensor, gamma: float) -> Tensor:
    """Log of the power mean from the logs of the losses; ``abs(gamma)`` < 1e-6 is geometric.

    >>> import torch
    >>> float(power_mean(torch.tensor([0.0, 2.0]), 0.0))
    1.0
    """
    if abs(gamma) < 1e-6:
        return logs.mean()
    return (torch.logsumexp(gamma * logs, 0) - math.log(len(logs))) / gamma
