"""Smooth minimum instead of the hard one in the min-norm problem."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer


class SmoothMin(Balancer):
    r"""Min-norm with the minimum over tasks smoothed by log-sum-exp.

    .. math:: a_i \propto \exp(-t \langle g_i, u\rangle / s), \quad u = \sum_i a_i g_i, \quad
        s = \tfrac1T \textstyle\sum_i G_{ii}

    The smooth route of article 8896 (kexue.fm/archives/8896; this fixed-point form is derived here).
    The weights minimise :math:`\frac12 a^\top G a / s + \frac1t \sum_i a_i \log a_i` over the
    simplex; :math:`t \to \infty` gives :class:`MGDA`, :math:`t \to 0` equal weights. The division by
    s makes t free of the gradients' common scale.

    Args:
        temperature: t > 0, without unit.

    Raises:
        ValueError: ``temperature`` is not positive.

    >>> import torch
    >>> [round(w, 4) for w in SmoothMin(temperature=1e-6).weights(torch.eye(2)).tolist()]
    [0.5, 0.5]
    >>> [round(w, 2) for w in SmoothMin(temperature=1e4).weights(torch.diag(torch.tensor([1., 4.]))).tolist()]
    [0.8, 0.2]
    """

    needs_gram = True
    heads = "own"

    def __init__(self, *, temperature: float = 10.0) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"balancer.temperature={temperature} must be a positive number")
        self.temperature = float(temperature)

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Newton's method on the entropic problem."""
        assert gram is not None
        return entropic_min_norm(gram / gram.diagonal().mean(), 1 / self.temperature)


def entropic_min_norm(gram: Tensor, strength: float, *, iterations: int = 200) -> Tensor:
    r"""Minimise :math:`\frac12 a^\top G a + \epsilon \sum_i a_i \log a_i` over the simplex.

    Damped Newton steps that keep the sum at 1 and the weights positive.

    >>> import torch
    >>> entropic_min_norm(torch.eye(3), 0.5).round(decimals=6).tolist()
    [0.333333, 0.333333, 0.333333]
    """

    def value(a: Tensor) -> float:
        return float(0.5 * a @ gram @ a + strength * torch.special.xlogy(a, a).sum())

    gram = gram.double()
    a = torch.full((len(gram),), 1 / len(gram), dtype=torch.float64)
    ones = torch.ones_like(a)
    for _ in range(iterations):
        slope = gram @ a + strength * (a.log() + 1)
        hessian = gram + torch.diag(strength / a)
        both = torch.linalg.solve(hessian, torch.stack([slope, ones], 1))
        step = both[:, 1] * (both[:, 0].sum() / both[:, 1].sum()) - both[:, 0]
        decrease = -float(step @ slope)
        if decrease <= 1e-20:
            break
        size = min(1.0, 0.99 * float((a / -step.clamp(max=-1e-300)).min()))
        now = value(a)
        while size > 1e-10 and value(a + size * step) > now - 0.25 * size * decrease + 1e-16:
            size /= 2
        a = a + size * step
    return a / a.sum()
