"""Projection onto the directions that hurt no task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kexue_pl.balancers.correlation import Array, correlation, nonnegative, root


def project(gram: Tensor, target: Tensor, constraints: Sequence[int] | None = None) -> Tensor:
    r"""Weights of the vector nearest to :math:`\sum_i t_i g_i` that conflicts with no constraint.

    .. math:: \min_u \lVert u - u_0 \rVert \text{ s.t. } \langle g_i, u\rangle \ge 0
        \quad\Leftrightarrow\quad u = u_0 + \sum_i \lambda_i g_i, \;
        \lambda = \arg\min_{\lambda \ge 0} \lVert u_0 + \sum_i \lambda_i g_i\rVert^2

    Solved as non-negative least squares on the correlation-scaled Gram, so at any scale.

    Args:
        gram: (n, n) with positive finite diagonal.
        target: (n,) coefficients t of the vector to project, or (k, n) of several.
        constraints: tasks to respect; None for all.

    Returns:
        Float64 coefficients of the projections, shaped as ``target``.

    >>> import torch
    >>> g = torch.tensor([[1.0, -1.0], [-1.0, 2.0]])
    >>> project(g, torch.tensor([1.0, 0.0])).round(decimals=6).tolist()
    [1.0, 0.5]
    """
    corr, norms = correlation(gram)
    r = root(corr)
    chosen = list(range(len(norms))) if constraints is None else list(constraints)
    out: Array = target.double().numpy().copy()
    for row in out.reshape(-1, len(norms)):  # views: written in place
        goal = r @ (row * norms)
        length = float(np.linalg.norm(goal))
        if length > 0 and chosen:
            row[chosen] += nonnegative(r[:, chosen], -goal / length) * length / norms[chosen]
    return torch.from_numpy(out)
