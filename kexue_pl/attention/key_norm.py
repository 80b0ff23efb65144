"""KeyNorm: keys of length one, queries as they are."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kexue_pl.attention.scaling import Scaling, as_float, check_above


class KeyNorm(Scaling):
    """``gain q . k / |k|``, kexue.fm/archives/9859: the norm of the query is the row's temperature.

    Args:
        gain: multiplier, more than 0; 1 in the article.

    >>> KeyNorm().factor(torch.tensor([5]), d=64).item()
    1.0
    """

    absolute = True

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = check_above("KeyNorm", "gain", gain, 0.0)

    def transform(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Keys divided by their Euclidean norms."""
        return query, F.normalize(key, dim=-1)

    def factor(self, n: Tensor, d: int) -> Tensor:
        """The gain, in the shape of n."""
        return torch.full_like(as_float(n), self.gain)

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``gain sqrt(d)``: what the gain is beside ``1/sqrt(d)``."""
        return self.factor(n, d) * math.sqrt(d)
