"""The scale of maximal update parametrisation: 1/d."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kexue_pl.attention.scaling import Scaling, as_float, check_above


class MuP(Scaling):
    """``gain q . k / d``, Tensor Programs V (arXiv 2203.03466); no dependence on n.

    Args:
        gain: multiplier, more than 0; ``sqrt(d of a tuned small model)`` reproduces that model.

    >>> MuP().factor(torch.tensor([9]), d=64).item()
    0.015625
    """

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = check_above("MuP", "gain", gain, 0.0)

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``gain / sqrt(d)`` in the shape of n."""
        return torch.full_like(as_float(n), self.gain / math.sqrt(d))
