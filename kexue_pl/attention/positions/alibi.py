"""ALiBi: a bias that falls with distance, steeper in some heads than in others."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kexue_pl.attention.positions.base import Positions


def alibi_slopes(heads: int) -> list[float]:
    """Slopes of arXiv 2108.12409: ``2^(-8 h / H)`` for H a power of two, else filled up from 2H.

    >>> alibi_slopes(4)
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    power: int = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (head + 1) / power) for head in range(power)]
    finer = [2.0 ** (-4.0 * (head + 1) / power) for head in range(0, 2 * power, 2)]
    return slopes + finer[: heads - power]


class ALiBi(Positions):
    """``- slope_h |i - j|`` added to the scaled logits, arXiv 2108.12409, in both directions.

    The bias is not multiplied by the scaling. It is H n^2 numbers, made once a length.
    """

    def __init__(self) -> None:
        self._biases: dict[tuple[int, int, int, int, torch.dtype, torch.device], Tensor] = {}

    def bias(self, query: Tensor, key: Tensor, offset: int) -> Tensor:
        """Bias (1, H, Q, K) in the dtype of the queries."""
        heads, queries, keys = query.shape[1], query.shape[2], key.shape[2]
        name = (heads, queries, keys, offset, query.dtype, query.device)
        if name not in self._biases:
            self._biases.clear()
            with torch.inference_mode(False):
                rows = torch.arange(offset, offset + queries, device=query.device)
                gap = (rows[:, None] - torch.arange(keys, device=query.device)).abs()
                slopes = torch.tensor(alibi_slopes(heads), device=query.device)
                bias = -slopes[:, None, None] * gap
            self._biases[name] = bias[None].to(query.dtype)
        return self._biases[name]
