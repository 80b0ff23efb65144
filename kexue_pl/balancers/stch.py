"""Smooth Tchebycheff scalarisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.constant import checked, pick


class STCH(Balancer):
    r"""Minimise a smooth maximum of the weighted distances to an ideal point.

    .. math:: L = \mu \log \sum_i \exp(\lambda_i (L_i - z_i) / \mu), \quad
        a_i = \lambda_i\, \mathrm{softmax}_i(\lambda (L - z) / \mu)

    Lin et al. 2024 (arXiv 2402.19078). :math:`\mu \to 0` is the hard maximum.

    Args:
        mu: smoothing > 0, in units of the loss.
        preference: (T,) lambda; None for 1/T.
        ideal: (T,) z; None for 0.

    Raises:
        ValueError: ``mu`` is not positive.

    >>> import torch
    >>> STCH(mu=1.0, preference=[1.0, 1.0]).weights(None, torch.tensor([2.0, 2.0])).tolist()
    [0.5, 0.5]
    """

    needs_losses = True

    def __init__(
        self,
        *,
        mu: float = 1.0,
        preference: Sequence[float] | None = None,
        ideal: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if mu <= 0:
            raise ValueError(f"balancer.mu={mu} must be positive")
        self.mu = mu
        self.preference = None if preference is None else checked(preference, "balancer.preference")
        self.ideal = None if ideal is None else checked(ideal, "balancer.ideal")

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Preference times softmax."""
        assert losses is not None
        share = torch.full_like(losses, 1 / len(tasks))
        if self.preference is not None:
            share = pick(self.preference, tasks, self._total, "balancer.preference")
        if self.ideal is not None:
            losses = losses - pick(self.ideal, tasks, self._total, "balancer.ideal")
        return share * torch.softmax(share * losses / self.mu, 0)
