"""Equal weights."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer


class Equal(Balancer):
    r"""Every task counts alike: :math:`L = \sum_i L_i`, the baseline of article 8870.

    >>> import torch
    >>> Equal().weights(None, torch.tensor([3.0, float("nan"), 1.0])).tolist()
    [1.0, 0.0, 1.0]
    """

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Ones."""
        return torch.ones(len(tasks), dtype=torch.float64)
