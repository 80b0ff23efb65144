"""The plain scale of Vaswani et al.: no dependence on the number of keys."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.attention.scaling import Scaling, as_float


class Standard(Scaling):
    """``q . k / sqrt(d)``, arXiv 1706.03762; "Attention-O" of kexue.fm/archives/8823.

    >>> Standard().factor(torch.tensor([[2], [900]]), d=64).flatten().tolist()
    [0.125, 0.125]
    """

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """Ones of the shape of n."""
        return torch.ones_like(as_float(n))
