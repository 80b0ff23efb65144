"""Mean of every gradient's projection onto the dual cone."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.cone import project


class UPGrad(Balancer):
    r"""Project every gradient onto the non-conflicting cone, then average.

    .. math:: u = \frac1T \sum_i \pi(g_i), \quad
        \pi(g) = \arg\min_{u} \lVert u - g \rVert \text{ s.t. } \langle g_j, u\rangle \ge 0 \;\forall j

    Quinton and Rey 2024 (arXiv 2406.16232). The projections are exact, so u conflicts with no task
    at any ratio of norms. For two tasks it is half of PCGrad.

    >>> import torch
    >>> UPGrad().weights(torch.tensor([[1.0, -1.0], [-1.0, 2.0]])).round(decimals=6).tolist()
    [1.0, 0.75]
    """

    needs_gram = True

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Mean of the projections' coefficients."""
        assert gram is not None
        return project(gram, torch.eye(len(tasks), dtype=torch.float64)).mean(0)
