"""The convex problem behind Nash-MTL and FairGrad."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kexue_pl.balancers.correlation import Array, correlation
from kexue_pl.balancers.min_norm import min_norm, stationary


def fair_weights(gram: Tensor, power: float, *, iterations: int = 200) -> Tensor:
    r"""Positive solution of :math:`(G a)_i = a_i^{-p}`, by damped Newton steps.

    It is the minimiser of the convex :math:`\frac12 a^\top G a - \sum_i \int^{a_i} x^{-p} dx`, found
    from the solution for orthogonal gradients, :math:`a_i = G_{ii}^{-1/(1+p)}`, by Newton's method,
    which no scaling of the tasks can slow down. No solution exists at a Pareto-stationary point; then
    the weights are 0.

    Args:
        gram: (n, n) with positive finite diagonal.
        power: p > 0.

    >>> import torch
    >>> fair_weights(torch.diag(torch.tensor([4.0, 16.0])), 1.0).round(decimals=6).tolist()
    [0.5, 0.25]
    """
    corr, _ = correlation(gram)
    angles = torch.from_numpy(corr)
    if stationary(angles, min_norm(angles)):
        return torch.zeros(len(gram), dtype=torch.float64)
    size = float(gram.diagonal().mean())
    g: Array = gram.double().numpy() / size

    def value(b: Array) -> float:
        spent = np.log(b) if power == 1 else b ** (1 - power) / (1 - power)
        return float(0.5 * b @ g @ b - spent.sum())

    b: Array = np.diag(g) ** (-1 / (1 + power))
    for _ in range(iterations):
        slope = g @ b - b**-power
        step = -np.linalg.solve(g + np.diag(power * b ** (-power - 1)), slope)
        decrease = -float(step @ slope)
        if decrease <= 1e-24:
            break
        shrinking = step < 0
        length = min(1.0, 0.99 * float((b / -step)[shrinking].min(initial=np.inf)))
        now = value(b)
        bound = 1e-15 * abs(now)
        while length > 1e-12 and value(b + length * step) > now - 1e-4 * length * decrease + bound:
            length /= 2
        b = b + length * step
    return torch.from_numpy(b * size ** (-1 / (1 + power)))
