"""CAGrad: the best worst-task improvement near the mean gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.min_norm import min_norm, stationary


class CAGrad(Balancer):
    r"""Maximise the worst task's improvement within a ball round the mean gradient.

    .. math:: \max_u \min_i \langle g_i, u\rangle \text{ s.t. } \lVert u - g_m\rVert \le c \lVert
        g_m\rVert, \quad u = g_m + \frac{\sqrt\phi}{\lVert g_w\rVert} g_w, \quad
        w = \arg\min_{w \in \Delta} \langle g_w, g_m\rangle + \sqrt\phi \lVert g_w\rVert

    Liu et al. 2021 (arXiv 2110.14048), :math:`g_m` the mean, :math:`\phi = c^2 \lVert g_m\rVert^2`.
    Solved exactly: for fixed :math:`\tau = \lVert g_w\rVert / \sqrt\phi` the problem is min-norm
    over the points :math:`g_i + \tau g_m`, and :math:`\tau` is the root of a decreasing function.

    Args:
        c: radius of the ball, >= 0; 0 is the mean gradient.

    Raises:
        ValueError: ``c`` is negative.

    >>> import torch
    >>> CAGrad(c=0.0).weights(torch.eye(2)).tolist()
    [0.5, 0.5]
    >>> CAGrad(c=0.5).weights(torch.eye(2)).round(decimals=6).tolist()
    [0.75, 0.75]
    """

    needs_gram = True

    def __init__(self, *, c: float = 0.5) -> None:
        super().__init__()
        if not 0 <= c < float("inf"):
            raise ValueError(f"balancer.c={c} must be a number >= 0")
        self.c = float(c)

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Mean weights plus the scaled worst-case mixture."""
        assert gram is not None
        mean = torch.full((len(tasks),), 1 / len(tasks), dtype=torch.float64)
        root = self.c * math.sqrt(max(float(mean @ gram @ mean), 0.0))
        if root == 0 or len(tasks) == 1:
            return mean * (1 + self.c if len(tasks) == 1 else 1)
        w = worst_mixture(gram, mean, root)
        if stationary(gram, w):
            return mean
        return mean + root / math.sqrt(float(w @ gram @ w)) * w


def worst_mixture(gram: Tensor, mean: Tensor, root: float) -> Tensor:
    r"""Minimise :math:`\langle g_w, g_m\rangle + \sqrt\phi \lVert g_w\rVert` over the simplex.

    >>> import torch
    >>> half = torch.full((2,), 0.5, dtype=torch.float64)
    >>> worst_mixture(torch.eye(2).double(), half, 0.3).round(decimals=6).tolist()
    [0.5, 0.5]
    """
    from scipy.optimize import brentq

    cross, square = gram @ mean, float(mean @ gram @ mean)
    both = cross[:, None] + cross[None, :]

    def mixture(tau: float) -> Tensor:
        return safe_min_norm(gram + tau * both + tau * tau * square)

    def excess(tau: float) -> float:
        w = mixture(tau)
        return math.sqrt(max(float(w @ gram @ w), 0.0)) / root - tau

    high = math.sqrt(float(gram.diagonal().max())) / root * (1 + 1e-9)
    return mixture(float(brentq(excess, 0.0, high, xtol=1e-14 * high, rtol=1e-14)))


def safe_min_norm(gram: Tensor) -> Tensor:
    """Min-norm weights that put everything on a point that is 0, if there is one.

    >>> import torch
    >>> safe_min_norm(torch.tensor([[0.0, 0.0], [0.0, 1.0]])).tolist()
    [1.0, 0.0]
    """
    diagonal = gram.diagonal()
    least = int(diagonal.argmin())
    if float(diagonal[least]) <= 1e-28 * float(diagonal.max()):
        return torch.eye(len(gram), dtype=torch.float64)[least]
    return min_norm(gram)
