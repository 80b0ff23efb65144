"""Projection of the mean gradient onto the dual cone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.cone import project
from kexue_pl.balancers.constant import checked, pick


class DualProj(Balancer):
    r"""The vector nearest to the mean gradient that conflicts with no task.

    .. math:: u = \arg\min_u \lVert u - \textstyle\sum_i p_i g_i\rVert
        \text{ s.t. } \langle g_i, u\rangle \ge 0

    Lopez-Paz and Ranzato 2017 (arXiv 1706.08840), in the form of TorchJD's DualProj, without its
    regulariser. ``preference`` = e_0 gives :class:`Primary`.

    Args:
        preference: (T,) weights p of the vector to project; None for 1/T.

    >>> import torch
    >>> DualProj().weights(torch.tensor([[1.0, -1.0], [-1.0, 4.0]])).tolist()
    [0.5, 0.5]
    >>> DualProj().weights(torch.tensor([[1.0, -2.0], [-2.0, 16.0]])).round(decimals=6).tolist()
    [1.0, 0.5]
    """

    needs_gram = True

    def __init__(self, preference: Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = None if preference is None else checked(preference, "balancer.preference")

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Coefficients of the projection."""
        assert gram is not None
        if self.preference is None:
            target = torch.full((len(tasks),), 1 / len(tasks), dtype=torch.float64)
        else:
            target = pick(self.preference, tasks, self._total, "balancer.preference")
        return project(gram, target)
