"""Gradient vaccine."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.rlw import step_generator


class GradVac(Balancer):
    r"""Raise each pair's cosine to its moving average.

    .. math:: g_i' \mathrel{+}= \frac{\lVert g_i'\rVert (\hat\phi \sqrt{1-\phi^2} - \phi
        \sqrt{1-\hat\phi^2})}{\lVert g_j\rVert \sqrt{1-\hat\phi^2}} g_j \text{ if } \phi < \hat\phi,
        \quad \hat\phi \leftarrow (1-\beta)\hat\phi + \beta\phi

    Wang et al. 2021 (arXiv 2010.05874), with :math:`\phi = \cos(g_i', g_j)`; :math:`\hat\phi = 0`
    gives PCGrad.

    Args:
        beta: rate of the moving average in [0, 1].
        seed: of the random order of the pairs.

    Raises:
        ValueError: ``beta`` outside [0, 1].

    >>> import torch
    >>> GradVac(beta=0.0).weights(torch.tensor([[1.0, -1.0], [-1.0, 2.0]])).tolist()
    [2.0, 1.5]
    """

    needs_gram = True

    def __init__(self, *, beta: float = 0.01, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"balancer.beta={beta} must lie in [0, 1]")
        self.beta, self.seed = beta, seed

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Coefficients of the vaccinated gradients' sum."""
        assert gram is not None
        n, total = len(tasks), self._total
        generator = step_generator(self.seed, self._count("step"))
        aims = self._state.setdefault("cosines", torch.zeros(total, total, dtype=torch.float64))
        out = torch.eye(n, dtype=torch.float64)
        for i in range(n):
            for j in map(int, torch.randperm(n, generator=generator)):
                if j != i:
                    at = (int(tasks[i]), int(tasks[j]))
                    cosine = self._raise(out[i], gram, j, float(aims[at]))
                    aims[at] = (1 - self.beta) * aims[at] + self.beta * cosine
        return out.sum(0)

    @staticmethod
    def _raise(row: Tensor, gram: Tensor, j: int, aim: float) -> float:
        """Raise the cosine of ``row`` with task j to ``aim`` in place; return the cosine found."""
        length = math.sqrt(max(float(row @ gram @ row), 0.0))
        other = math.sqrt(float(gram[j, j]))
        if length == 0:
            return 0.0
        cosine = min(max(float(row @ gram[j]) / (length * other), -1.0), 1.0)
        if cosine < aim < 1:
            rest = math.sqrt(1 - aim * aim)
            row[j] += (
                length * (aim * math.sqrt(1 - cosine * cosine) - cosine * rest) / (other * rest)
            )
        return cosine
