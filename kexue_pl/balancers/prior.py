"""Reciprocal of the loss of the best constant prediction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer, positive
from kexue_pl.balancers.constant import checked, pick


class Prior(Balancer):
    r"""Weight each task by the reciprocal of the loss that knows only the label distribution.

    .. math:: a_i = 1 / L_i^{prior}, \quad L^{prior} = -\sum_k p_k \log p_k
        \text{ (classes)}, \quad E \lVert y - E y \rVert^2 \text{ (regression)}

    Article 8870 (kexue.fm/archives/8870), "prior state". ``task=multitask`` fills the losses from
    its training labels when they are None; see :func:`entropy` and :func:`variance`.

    Args:
        losses: (T,) positive losses of the best constant prediction, or None until :meth:`start`.

    Raises:
        ValueError: a loss is zero (all labels equal) or negative, or none were given.

    >>> import torch
    >>> Prior([entropy(torch.tensor([1, 1])), 0.5]).weights(None, torch.ones(2)).round(
    ...     decimals=4).tolist()
    [1.4427, 2.0]
    """

    def __init__(self, losses: Sequence[float] | None = None) -> None:
        super().__init__()
        if losses is not None:
            self.start(checked(losses, "balancer.losses"))

    @property
    def started(self) -> bool:
        """Whether the losses are known."""
        return "losses" in self._state

    def start(self, losses: Tensor) -> None:
        """Set the losses of the best constant predictions, (T,).

        >>> import torch
        >>> rule = Prior()
        >>> rule.start(torch.tensor([2.0]))
        >>> rule.started
        True
        """
        losses = losses.detach().to("cpu", torch.float64)
        self._state["losses"] = positive(losses, torch.arange(len(losses)), self.name).clone()

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """1 / the prior losses."""
        if not self.started:
            raise ValueError("Prior has no losses yet: give balancer.losses or call start(losses)")
        return 1 / pick(self._state["losses"], tasks, self._total, "balancer.losses")


def entropy(counts: Tensor) -> float:
    """Cross-entropy in nats of the label frequencies: the best constant classifier.

    >>> import torch
    >>> round(entropy(torch.tensor([3, 1])), 4)
    0.5623
    """
    share = counts.double() / counts.sum()
    return float(-torch.special.xlogy(share, share).sum())


def variance(targets: Tensor) -> float:
    """Mean squared distance of (N,) or (N, D) targets to their mean: the best constant regressor.

    >>> import torch
    >>> variance(torch.tensor([0.0, 2.0]))
    1.0
    """
    wide = targets.double().reshape(len(targets), -1)
    return float((wide - wide.mean(0)).square().sum(1).mean())
