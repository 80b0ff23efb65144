"""Conflicting quadratics whose Pareto front is known exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kexue_pl.balancers import min_norm
from kexue_pl.data.objectives import Objectives

__all__ = ["Quadratics"]


class Quadratics(Objectives):
    r"""Losses :math:`f_i(x) = \frac{s_i}{2} (x - c_i)^\top H (x - c_i)` with one H for all tasks.

    The Pareto set is the convex hull of the :math:`c_i` for **every** choice of the scales
    :math:`s_i`, and the distance to it is a min-norm problem in the H-norm.

    Args:
        tasks: number of losses, >= 2.
        dimensions: of x.
        condition: ratio of H's largest to its smallest eigenvalue, >= 1.
        gap: ratio of the largest to the smallest scale, >= 1.
        steps: optimizer steps of an epoch.
        seed: of the centres, H's rotation and the start.
    """

    def __init__(
        self,
        *,
        tasks: int = 2,
        dimensions: int = 10,
        condition: float = 100.0,
        gap: float = 100.0,
        steps: int = 500,
        seed: int = 0,
    ) -> None:
        if tasks < 2 or dimensions < 1 or condition < 1 or gap < 1:
            raise ValueError(
                f"data.tasks={tasks} >= 2, data.dimensions={dimensions} >= 1, "
                f"data.condition={condition} >= 1 and data.gap={gap} >= 1"
            )
        g = torch.Generator().manual_seed(seed)
        rotation, _ = torch.linalg.qr(torch.randn(dimensions, dimensions, generator=g).double())
        values = torch.logspace(0, -math.log10(condition), dimensions, dtype=torch.float64)
        self.hessian = rotation @ torch.diag(values) @ rotation.T
        self.centres = torch.randn(tasks, dimensions, generator=g).double()
        self.scales = torch.logspace(0, math.log10(gap), tasks, dtype=torch.float64)
        start = 3 * torch.randn(dimensions, generator=g)
        super().__init__(tasks=tasks, steps=steps, start=start.tolist(), seed=seed)

    def losses(self, point: Tensor) -> list[Tensor]:
        """The T quadratics at a point (D,)."""
        off = point - self.centres.to(point)
        values = (
            0.5
            * self.scales.to(point)
            * torch.einsum("td,de,te->t", off, self.hessian.to(off), off)
        )
        return list(values)

    def front(self, count: int) -> list[Tensor]:
        """Mixtures of the centres: evenly spaced for two tasks, else drawn over the hull."""
        if len(self.centres) == 2:
            share = torch.linspace(0, 1, count, dtype=torch.float64)
            mixtures = torch.stack([1 - share, share], 1)
        else:
            g = torch.Generator().manual_seed(0)
            raw = torch.rand(count, len(self.centres), generator=g, dtype=torch.float64)
            mixtures = raw.log() / raw.log().sum(1, keepdim=True)
        return list(mixtures @ self.centres)

    def measure(self, point: Tensor) -> dict[str, float]:
        """Distance to the front in the H-norm, over its diameter; balance as hypervolume.

        ``balance`` is :math:`(\\prod_i \\max(0, 1 - f_i / n_i))^{1/T}` with the nadir
        :math:`n_i = \\max_j f_i(c_j)`: free of the scales, 0 when one task is given up.
        """
        x = point.detach().double().cpu()
        off = x - self.centres
        gram = off @ self.hessian @ off.T
        a = min_norm(gram + 1e-300 * torch.eye(len(gram), dtype=torch.float64))
        between = self.centres[:, None] - self.centres[None, :]
        squares = torch.einsum("ijd,de,ije->ij", between, self.hessian, between)
        distance = float((a @ gram @ a).clamp(min=0).sqrt() / squares.max().sqrt())
        share = (1 - gram.diagonal() / squares.amax(1)).clamp(min=0)
        return {"front_distance": distance, "balance": float(share.prod() ** (1 / len(share)))}
