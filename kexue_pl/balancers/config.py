"""ConFIG: equal angles, and a length that adds up the projections."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.correlation import correlation
from kexue_pl.balancers.imtl_g import equal_angles


class ConFIG(Balancer):
    r"""A unit direction with equal angles to all gradients, times the sum of their projections.

    .. math:: v = \hat J^+ 1, \quad u = \Big(\sum_i \langle g_i, \hat v\rangle\Big) \hat v

    Liu et al. 2024 (arXiv 2408.11104), with :math:`\hat J` the unit gradients. In Gram form
    :math:`v = \sum_i (C^+ 1)_i\, g_i/\lVert g_i\rVert` and
    :math:`\lVert v\rVert^2 = 1^\top C^+ 1`, so the full matrix is not needed.

    >>> import torch
    >>> ConFIG().weights(torch.tensor([[1.0, 0.0], [0.0, 9.0]])).round(decimals=4).tolist()
    [2.0, 0.6667]
    """

    needs_gram = True

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Equal-angle coefficients scaled to the summed projections."""
        assert gram is not None
        corr, norms = correlation(gram)
        x = equal_angles(corr)
        square = float(x @ corr @ x)
        if square <= 0:
            return torch.zeros(len(x), dtype=torch.float64)
        length = float(norms @ (corr @ x)) / square
        return torch.from_numpy(np.asarray(length * x / norms))
