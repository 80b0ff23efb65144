"""DB-MTL: log losses and gradients of the largest norm."""

from __future__ import annotations

from torch import Tensor

from kexue_pl.balancers.base import Balancer, positive


class DBMTL(Balancer):
    r"""Balance loss scales by logs and gradient magnitudes by the largest norm.

    .. math:: \hat g_i = \nabla \log L_i = g_i / L_i, \quad
        u = \max_j \lVert \hat g_j\rVert \sum_i \hat g_i / \lVert \hat g_i\rVert
        \;\Rightarrow\; a_i = \max_j (\lVert g_j\rVert / L_j) / \lVert g_i\rVert

    Lin et al. 2023 (arXiv 2308.12029), without the moving average of the gradients, which needs the
    full matrix (a moving average of the Gram is ``balancer=ema``).

    Raises:
        ValueError: a loss is zero or negative.

    >>> import torch
    >>> DBMTL().weights(torch.diag(torch.tensor([4.0, 1.0])), torch.tensor([1.0, 0.25])).tolist()
    [2.0, 4.0]
    """

    needs_gram = True
    needs_losses = True

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Largest log-gradient norm over each norm."""
        assert gram is not None and losses is not None
        norms = gram.diagonal().sqrt()
        return (norms / positive(losses, tasks, self.name)).max() / norms
