"""A main task that auxiliary tasks may help but not harm."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.cone import project


class Primary(Balancer):
    r"""Follow the main task as closely as the auxiliaries' constraints allow.

    .. math:: \max_u \langle u, g_0\rangle - \tfrac12 \lVert u\rVert^2 \text{ s.t. }
        \langle u, g_i\rangle \ge 0, \quad u = g_0 + \sum_i \lambda_i g_i, \;
        \lambda = \arg\min_{\lambda \ge 0} \Big\lVert g_0 + \sum_i \lambda_i g_i \Big\rVert^2

    Article 8907 (kexue.fm/archives/8907). One auxiliary: :math:`\lambda =
    \mathrm{relu}(-\langle g_0, g_1\rangle) / \lVert g_1\rVert^2`. :math:`\langle u, g_0\rangle =
    \lVert u\rVert^2 \ge 0` always, and the scale of an auxiliary does not matter. A guard, not a
    booster: an auxiliary that does not conflict never enters u. Every head keeps its own gradient.
    Without a live main task all weights are 0.

    Args:
        main: index of the main task.
        method: ``"exact"`` (non-negative least squares) or ``"greedy"`` (the article's: repair the
            most violated constraint, again and again).
        rounds: repairs at most in the greedy method, >= 1.

    Raises:
        ValueError: an unknown method, or ``main`` is not a task.

    >>> import torch
    >>> Primary(main=0).weights(torch.tensor([[1.0, -1.0], [-1.0, 2.0]])).round(decimals=6).tolist()
    [1.0, 0.5]
    """

    needs_gram = True
    heads = "own"

    def __init__(
        self, main: int = 0, *, method: Literal["exact", "greedy"] = "exact", rounds: int = 100
    ) -> None:
        super().__init__()
        if method not in ("exact", "greedy"):
            raise ValueError(f"balancer.method={method!r} is neither 'exact' nor 'greedy'")
        if main < 0 or rounds < 1:
            raise ValueError(f"balancer.main={main} must be >= 0 and balancer.rounds={rounds} >= 1")
        self.main, self.method, self.rounds = main, method, rounds

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """1 for the main task, the multipliers for the others."""
        assert gram is not None
        if self.main >= self._total:
            raise ValueError(f"balancer.main={self.main} is no task: there are {self._total}")
        target = (tasks == self.main).double()
        if not bool(target.any()):
            return target
        others = (target == 0).nonzero()[:, 0].tolist()
        if self.method == "greedy":
            return greedy(gram, target, others, self.rounds)
        return project(gram, target, others)


def greedy(gram: Tensor, start: Tensor, others: list[int], rounds: int) -> Tensor:
    r"""Repair the most violated constraint: :math:`\lambda_i \mathrel{+}= -\langle g_i, u\rangle / G_{ii}`.

    Violation is measured by the cosine, so an auxiliary's scale does not matter; a multiplier may
    shrink again, never below 0, which makes the iteration converge to the exact solution.

    >>> import torch
    >>> g = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    >>> greedy(g, torch.tensor([1.0, 0.0], dtype=torch.float64), [1], 5).round(decimals=6).tolist()
    [1.0, 0.5]
    """
    out, norms = start.clone(), gram.diagonal().sqrt()
    index = torch.tensor(others, dtype=torch.int64)
    for _ in range(rounds if others else 0):
        inner = (gram @ out)[index] / norms[index]
        move = torch.maximum(-inner, -out[index] * norms[index])
        at = int(move.abs().argmax())
        if abs(float(move[at])) <= 1e-15 * float((out @ gram @ out).clamp(min=0).sqrt()):
            break
        out[index[at]] += move[at] / norms[index[at]]
    return out
