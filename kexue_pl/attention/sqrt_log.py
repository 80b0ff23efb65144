"""The square root law: exact for independent Gaussian logits."""

from __future__ import annotations

import math

from torch import Tensor

from kexue_pl.attention.scaling import Scaling, check_above, log_keys


class SqrtLog(Scaling):
    r"""``sqrt(log n / log b) q . k / sqrt(d)``, the law of the random energy model.

    Independent Gaussian logits of variance v have entropy ``log n - v/2``; keeping its ratio to log
    n asks for v proportional to log n, hence a temperature that grows as the square root. The laws
    between ``(log n)^(1/2)`` and ``(log n)^2`` are reviewed in arXiv 2605.12697; compare
    kexue.fm/archives/8823, whose power is 1.

    Args:
        base: b, the number of keys at which the ratio is 1; more than 1.
        strength: 1 for the law, 0 for the standard scale, linear between.

    >>> import torch
    >>> SqrtLog(base=16).ratio(torch.tensor([16, 65536]), d=64).tolist()
    [1.0, 2.0]
    """

    def __init__(self, base: float = 512.0, strength: float = 1.0) -> None:
        super().__init__()
        self.base = check_above("SqrtLog", "base", base, 1.0)
        self.strength = strength

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``1 + strength (sqrt(log n / log base) - 1)``."""
        return 1.0 + self.strength * ((log_keys(n) / math.log(self.base)).sqrt() - 1.0)
