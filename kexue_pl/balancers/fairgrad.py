"""FairGrad: alpha-fair allocation."""

from __future__ import annotations

from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.fair import fair_weights


class FairGrad(Balancer):
    r"""Alpha-fair gains: :math:`\max_u \sum_i \langle g_i, u\rangle^{1-\alpha} / (1-\alpha)`.

    .. math:: (G a)_i = a_i^{-1/\alpha}, \; a > 0

    Ban and Ji 2024 (arXiv 2402.15638). :math:`\alpha = 1` is Nash, :math:`\alpha \to 0` tends to
    equal weights, :math:`\alpha \to \infty` to equal gains.

    Args:
        alpha: fairness > 0.

    Raises:
        ValueError: ``alpha`` is not positive.

    >>> import torch
    >>> FairGrad(alpha=1.0).weights(torch.diag(torch.tensor([4.0, 16.0]))).round(decimals=6).tolist()
    [0.5, 0.25]
    """

    needs_gram = True

    def __init__(self, *, alpha: float = 2.0) -> None:
        super().__init__()
        if not 0 < alpha < float("inf"):
            raise ValueError(f"balancer.alpha={alpha} must be a positive number")
        self.alpha = float(alpha)

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The fair weights; 0 at a Pareto-stationary point."""
        assert gram is not None
        return fair_weights(gram, 1 / self.alpha)
