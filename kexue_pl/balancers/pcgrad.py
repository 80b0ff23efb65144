"""PCGrad: project conflicting gradients onto each other's normal plane."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.rlw import step_generator


class PCGrad(Balancer):
    r"""For every task, remove its conflict with the others one after the other; add up.

    .. math:: g_i' \leftarrow g_i' - \frac{\min(\langle g_i', g_j\rangle, 0)}{\lVert g_j\rVert^2} g_j
        \quad (j \ne i), \quad u = \sum_i g_i'

    Yu et al. 2020 (arXiv 2001.06782). It does not promise a conflict-free sum for more than two
    tasks, and is not free of scale.

    Args:
        order: ``"random"`` (the paper's; drawn from ``seed`` and the step, the same on every rank)
            or ``"fixed"``.
        seed: of the random order.

    Raises:
        ValueError: an unknown order.

    >>> import torch
    >>> PCGrad().weights(torch.tensor([[1.0, -1.0], [-1.0, 2.0]])).tolist()
    [2.0, 1.5]
    """

    needs_gram = True

    def __init__(self, *, order: Literal["random", "fixed"] = "random", seed: int = 0) -> None:
        super().__init__()
        if order not in ("random", "fixed"):
            raise ValueError(f"balancer.order={order!r} is neither 'random' nor 'fixed'")
        self.order, self.seed = order, seed

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Coefficients of the repaired gradients' sum."""
        assert gram is not None
        n, step = len(tasks), self._count("step")
        generator = step_generator(self.seed, step)
        out = torch.eye(n, dtype=torch.float64)
        for i in range(n):
            line = torch.randperm(n, generator=generator) if self.order == "random" else range(n)
            for j in map(int, line):
                if j != i:
                    out[i, j] -= min(float(out[i] @ gram[j]), 0.0) / float(gram[j, j])
        return out.sum(0)
