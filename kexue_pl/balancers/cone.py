"""Projection onto the directions that hurt no task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kexue_pl.balancers.correlation import correlation, nonnegative, root


def project(gram: Tensor, target: Tensor, constraints: Sequence[int] | None = None) -> Tensor:
    r"""Weights of the vector nearest to :math:`\sum_i t_i g_i` that conflicts with no constraint.

    .. math:: \min_u \lVert u - u_0 \rVert \text{ s.t. } \langle g_i, u\rangle \ge 0
        \quad\Leftrightarrow\quad u = u_0 + \sum_i \lambda_i g_i, \;
        \lambda = \arg\min_{\lambda \ge 0} \lVert u_0 + \sum_i \lambda_i g_i\rVert^2

    Solved as non-negative least squares on the correlation-scaled Gram, so at any scale.

    Args:
        gram: (n, n) with positive finite diagonal.
        target: (n,) coefficients t of the vector to project.
        constraints: tasks to respect; None for all.

    Returns:
        (n,) float64 coefficients of the projection.

    >>> import torch
    >>> g = torch.tensor([[1.0, -1.0], [-1.0, 2.0]])
    >>> project(g, torch.tensor([1.0, 0.0])).round(decimals=6).tolist()
    [1.0, 0.5]
    """
    corr, norms = correlation(gram)
    r = root(corr)
    chosen = list(range(len(norms))) if constraints is None else list(constraints)
    out: Tensor = target.double().clone()
    goal = r @ (out.numpy() * norms)
    length = float(np.linalg.norm(goal))
    if length == 0 or not chosen:
        return out
    push = nonnegative(r[:, chosen], -goal / length) * length / norms[chosen]
    out[chosen] += torch.from_numpy(push)
    return out
