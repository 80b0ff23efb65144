"""The log n scale that never goes below the standard one, at inference."""

from __future__ import annotations

import math

from torch import Tensor

from kexue_pl.attention.scaling import Scaling, check_above, log_keys


class LogNClipped(Scaling):
    """``max(1, log n / log L) q . k / sqrt(d)`` at inference, the plain scale in training.

    The variant of kexue.fm/archives/8823 that Qwen-1 ships as ``use_logn_attn``; there n is the
    position of the token, here the number of keys the row sees, which also holds for bidirectional
    rows.

    Args:
        train_length: L, tokens of a training row; more than 1.

    >>> import torch
    >>> LogNClipped(train_length=64).ratio(torch.tensor([8, 64, 4096]), d=64).tolist()
    [1.0, 1.0, 2.0]
    """

    inference_only = True

    def __init__(self, train_length: int = 512) -> None:
        super().__init__()
        self.train_length = check_above("LogNClipped", "train_length", train_length, 1)

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``max(1, log n / log train_length)``."""
        return (log_keys(n) / math.log(self.train_length)).clamp_min(1.0)
