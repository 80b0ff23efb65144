"""Gradient sign dropout."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.rlw import step_generator


class GradDrop(Balancer):
    r"""Keep, in every coordinate, only the gradients of one randomly chosen sign.

    .. math:: P = \tfrac12 \Big(1 + \frac{\sum_i g_i}{\sum_i |g_i|}\Big), \quad
        u = \sum_i g_i \odot \big([P > U][g_i > 0] + [P < U][g_i < 0]\big)

    Chen et al. 2020 (arXiv 2010.06808), U uniform. It works on coordinates and is no weighted sum,
    so it needs the full matrix (T, P): use ``task.level=parameters``. The draws depend on seed and
    step alone, so every rank drops the same coordinates.

    Args:
        leak: share of every gradient that passes anyway, in [0, 1].
        seed: of the draws.

    Raises:
        ValueError: ``leak`` outside [0, 1]; :meth:`weights` was called.

    >>> import torch
    >>> GradDrop().combine(torch.tensor([[1.0, 2.0], [3.0, 1.0]])).tolist()
    [4.0, 3.0]
    """

    needs_matrix = True

    def __init__(self, *, leak: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= leak <= 1:
            raise ValueError(f"balancer.leak={leak} must lie in [0, 1]")
        self.leak, self.seed = leak, seed

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Refused: the rule is not a weighted sum."""
        raise ValueError("GradDrop has no weights, it needs the full matrix: task.level=parameters")

    def combine(self, matrix: Tensor, losses: Tensor | None = None) -> Tensor:
        """The signed sum, (T, P) -> (P,); rows that are not finite are left out."""
        rows = matrix[matrix.isfinite().all(1)]
        if len(rows) == 0:
            return torch.full_like(matrix[0], torch.nan)
        size = rows.abs().sum(0)
        purity = 0.5 * (1 + rows.sum(0) / torch.where(size > 0, size, 1))
        generator = step_generator(self.seed, self._count("step"))
        draw = torch.rand(rows.shape[1], generator=generator, dtype=torch.float64).to(purity)
        keep = torch.where(rows > 0, purity > draw, purity < draw).to(rows.dtype)
        return ((self.leak + (1 - self.leak) * keep) * rows).sum(0)
