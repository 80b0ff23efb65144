"""IMTL-G: equal projections on all task gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.correlation import Array, correlation


class IMTLG(Balancer):
    r"""The combination with equal projections on all unit gradients.

    .. math:: \langle u, g_i/\lVert g_i\rVert\rangle = c \;\forall i, \quad
        a_i = \frac{(C^+ 1)_i}{\lVert g_i\rVert} \Big/ \sum_j \frac{|(C^+ 1)_j|}{\lVert g_j\rVert}

    Liu et al. 2021, "Towards impartial multi-task learning" (ICLR). The paper divides by the sum of
    the weights, which may be negative and then ascends **every** task; the sum of their absolute
    values is the same whenever the paper's weights are all positive and never flips the sign.

    Args:
        published: divide by the plain sum, as the paper does.

    >>> import torch
    >>> IMTLG().weights(torch.tensor([[1.0, 0.0], [0.0, 9.0]])).tolist()
    [0.75, 0.25]
    """

    needs_gram = True

    def __init__(self, *, published: bool = False) -> None:
        super().__init__()
        self.published = published

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The equal-projection weights; 0 when no direction has equal positive projections."""
        assert gram is not None
        corr, norms = correlation(gram)
        a = equal_angles(corr) / norms * norms.min()
        total = a.sum() if self.published else np.abs(a).sum()
        return torch.from_numpy(a / total if total != 0 else np.zeros_like(a))


def equal_angles(corr: Array) -> Array:
    r"""Least-squares, least-norm solution of :math:`C x = 1`; 0 where it is only noise.

    >>> import numpy as np
    >>> equal_angles(np.eye(2)).tolist(), equal_angles(np.array([[1.0, -1.0], [-1.0, 1.0]])).tolist()
    ([1.0, 1.0], [0.0, 0.0])
    """
    values, vectors = np.linalg.eigh(corr)
    keep = values > 1e-12 * values.max()
    part = vectors[:, keep].T @ np.ones(len(corr))
    out: Array = vectors[:, keep] @ (part / values[keep])
    if np.abs(corr @ out).max() < 1e-6:
        return np.zeros_like(out)
    return out
