"""Reciprocal of the gradient norm."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer


class InverseGradNorm(Balancer):
    r"""Weight each task by the reciprocal of its gradient norm: all pull equally hard.

    .. math:: a_i = 1 / \mathrm{sg}(\lVert \nabla L_i \rVert), \quad
        u = \sum_i g_i / \lVert g_i \rVert

    Article 8870 (kexue.fm/archives/8870). Invariant to :math:`L_i \to c_i L_i + b_i` for every
    :math:`c_i > 0`. Of degree 0: the step does not shrink with the gradients, so decay the learning
    rate. With ``ema`` the norm is a bias-corrected moving average, steadier for small batches.

    Args:
        ema: decay of the norm's moving average in [0, 1); 0 takes the current norm.

    Raises:
        ValueError: ``ema`` outside [0, 1).

    >>> import torch
    >>> InverseGradNorm().weights(torch.tensor([[4.0, 1.0], [1.0, 16.0]])).tolist()
    [0.5, 0.25]
    """

    needs_gram = True

    def __init__(self, ema: float = 0.0) -> None:
        super().__init__()
        if not 0 <= ema < 1:
            raise ValueError(f"balancer.ema={ema} must lie in [0, 1)")
        self.ema = ema

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """1 / norms, or 1 / their moving averages."""
        assert gram is not None
        norms = gram.diagonal().sqrt()
        if self.ema == 0:
            return 1 / norms
        mean, seen = self._per_task("mean", 0.0), self._per_task("seen", 0.0)
        mean[tasks] = self.ema * mean[tasks] + (1 - self.ema) * norms
        seen[tasks] += 1
        return (1 - torch.pow(self.ema, seen[tasks])) / mean[tasks]
