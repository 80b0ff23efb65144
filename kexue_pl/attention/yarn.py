"""The temperature of YaRN: a logarithm of the length ratio."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.attention.scaling import Scaling, as_float, check_above


class YaRN(Scaling):
    """``(a ln s + 1)^2 q . k / sqrt(d)`` with ``s = max(1, n / train_length)``, arXiv 2309.00071.

    Libraries put the root of the factor into the cosines and sines of the rotary tables; on the
    logits it is the square. Only the temperature is here; the frequencies are a matter of
    positions.

    Args:
        train_length: tokens of a training row; more than 1.
        slope: a; 0.1 in the paper.

    >>> YaRN(train_length=64).ratio(torch.tensor([10, 64]), d=64).tolist()
    [1.0, 1.0]
    >>> round(YaRN(train_length=64).ratio(torch.tensor(1024), d=64).item(), 4)  # (0.27726 + 1)^2
    1.6314
    """

    def __init__(self, train_length: int = 512, slope: float = 0.1) -> None:
        super().__init__()
        self.train_length = check_above("YaRN", "train_length", train_length, 1)
        self.slope = slope

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``(slope ln max(1, n / train_length) + 1)^2``."""
        stretch = (as_float(n) / self.train_length).clamp_min(1.0)
        return (self.slope * torch.log(stretch) + 1.0) ** 2
