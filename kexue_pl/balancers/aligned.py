"""Aligned-MTL: remove dominance and conflict by equalising the singular values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.constant import checked, pick


class Aligned(Balancer):
    r"""Rescale the principal components of the gradients to the smallest one.

    .. math:: G = V \Lambda V^\top, \quad a = \sqrt{\lambda_{\min}}\, V \Lambda^{-1/2} V^\top p

    Senushkin et al. 2023 (arXiv 2305.19000); :math:`\lambda_{\min}` over the numerical rank.

    Args:
        preference: (T,) weights p; None for 1/T.

    >>> import torch
    >>> Aligned().weights(torch.diag(torch.tensor([1.0, 4.0]))).tolist()
    [0.5, 0.25]
    """

    needs_gram = True

    def __init__(self, preference: Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = None if preference is None else checked(preference, "balancer.preference")

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The aligned weights."""
        assert gram is not None
        if self.preference is None:
            p = torch.full((len(tasks),), 1 / len(tasks), dtype=torch.float64)
        else:
            p = pick(self.preference, tasks, self._total, "balancer.preference")
        values, vectors = torch.linalg.eigh(gram)
        keep = values > values.max() * len(gram) * torch.finfo(torch.float64).eps
        values, vectors = values[keep], vectors[:, keep]
        out: Tensor = vectors @ ((vectors.T @ p) * (values.min() / values).sqrt())
        return out
