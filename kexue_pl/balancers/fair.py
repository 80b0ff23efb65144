"""The convex problem behind Nash-MTL and FairGrad."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.correlation import correlation
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
    corr = torch.from_numpy(correlation(gram)[0])
    if stationary(corr, min_norm(corr)):
        return torch.zeros(len(gram), dtype=torch.float64)
    size = float(gram.diagonal().mean())
    g = gram / size

    def value(b: Tensor) -> float:
        spent = b.log() if power == 1 else b.pow(1 - power) / (1 - power)
        return float(0.5 * b @ g @ b - spent.sum())

    b: Tensor = g.diagonal().pow(-1 / (1 + power))
    for _ in range(iterations):
        slope = g @ b - b.pow(-power)
        step = -torch.linalg.solve(g + torch.diag(power * b.pow(-power - 1)), slope)
        decrease = -float(step @ slope)
        if decrease <= 1e-24:
            break
        length = min(1.0, 0.99 * float((b / -step.clamp(max=-1e-300)).min()))
        now = value(b)
        while length > 1e-12 and value(
            b + length * step
        ) > now - 1e-4 * length * decrease + 1e-15 * abs(now):
            length /= 2
        b = b + length * step
    out: Tensor = b * size ** (-1 / (1 + power))
    return out
