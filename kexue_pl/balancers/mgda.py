"""Minimum-norm point of the gradients (multiple gradient descent)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer, positive
from kexue_pl.balancers.min_norm import frank_wolfe, min_norm, pair_min_norm, stationary

Normalize = Literal["none", "gradient", "loss", "loss_gradient"]
Solver = Literal["exact", "nnls", "closed_form", "frank_wolfe"]


class MGDA(Balancer):
    r"""The common descent direction of largest guaranteed decrease.

    .. math:: a^* = \arg\min_{a \in \Delta} \Big\lVert \sum_i a_i g_i \Big\rVert^2, \quad
        u = \sum_i a^*_i g_i, \quad \langle g_i, u\rangle \ge \lVert u\rVert^2

    Article 8896 (kexue.fm/archives/8896); Sener and Koltun 2018 (arXiv 1810.04650). With gradients
    of unequal norm the plain rule leans to the **smallest** one; ``normalize="gradient"`` takes unit
    gradients first and is free of each task's scale. u = 0 exactly at a Pareto-stationary point.

    Args:
        normalize: divide :math:`g_i` by 1, :math:`\lVert g_i\rVert`, :math:`L_i` or their product.
        solver: ``"exact"`` (closed form for two tasks, else NNLS), ``"nnls"``, ``"closed_form"``,
            ``"frank_wolfe"``.
        iterations: Frank-Wolfe steps, >= 1.

    Raises:
        ValueError: an unknown option, or ``closed_form`` with other than two tasks.

    >>> import torch
    >>> MGDA().weights(torch.tensor([[1.0, 0.0], [0.0, 4.0]])).round(decimals=6).tolist()
    [0.8, 0.2]
    >>> MGDA(normalize="gradient").weights(torch.tensor([[1.0, 0.0], [0.0, 4.0]])).tolist()
    [0.5, 0.25]
    """

    needs_gram = True
    certified = True
    heads: Literal["weighted", "own"] = "own"

    def __init__(
        self, *, normalize: Normalize = "none", solver: Solver = "exact", iterations: int = 250
    ) -> None:
        super().__init__()
        for key, value, known in (
            ("normalize", normalize, get_args(Normalize)),
            ("solver", solver, get_args(Solver)),
        ):
            if value not in known:
                raise ValueError(f"balancer.{key}={value!r} is none of {', '.join(known)}")
        if iterations < 1:
            raise ValueError(f"balancer.iterations={iterations} must be at least 1")
        self.normalize, self.solver, self.iterations = normalize, solver, iterations
        self.needs_losses = normalize in ("loss", "loss_gradient")
        self.certified = normalize == "none"
        self.heads = "own" if normalize == "none" else "weighted"

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Minimum-norm weights, divided by the normaliser."""
        assert gram is not None
        if self.normalize == "none":
            a = self._simplex(gram)
            return torch.zeros_like(a) if stationary(gram, a) else a
        scale = torch.ones(len(tasks), dtype=torch.float64)
        if "gradient" in self.normalize:
            scale = scale / gram.diagonal().sqrt()
        if "loss" in self.normalize:
            assert losses is not None
            scale = scale / positive(losses, tasks, self.name)
        unit = gram * scale[:, None] * scale[None, :]
        a = self._simplex(unit)
        return torch.zeros_like(a) if stationary(unit, a) else a * scale

    def _simplex(self, gram: Tensor) -> Tensor:
        if self.solver == "frank_wolfe":
            return frank_wolfe(gram, iterations=self.iterations)
        if self.solver == "closed_form" or (self.solver == "exact" and len(gram) == 2):
            return pair_min_norm(gram)
        return min_norm(gram)
