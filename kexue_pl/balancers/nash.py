"""Nash bargaining."""

from __future__ import annotations

from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.fair import fair_weights


class Nash(Balancer):
    r"""The Nash bargaining solution: everyone's proportional gain is the same.

    .. math:: \max_u \sum_i \log \langle g_i, u\rangle \;\Rightarrow\; G a = 1 / a, \; a > 0

    Navon et al. 2022 (arXiv 2202.01017), solved exactly by Newton's method on a convex problem that
    sees the angles only. Of degree 0 with :math:`\lVert u\rVert = \sqrt T` always, so decay the
    learning rate. For two tasks the direction is that of :class:`InverseGradNorm`.

    >>> import torch
    >>> Nash().weights(torch.diag(torch.tensor([4.0, 16.0]))).round(decimals=6).tolist()
    [0.5, 0.25]
    """

    needs_gram = True

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The bargaining weights; 0 at a Pareto-stationary point."""
        assert gram is not None
        return fair_weights(gram, 1.0)
