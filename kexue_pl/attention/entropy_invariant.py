"""The article's scale: log n over the log of a base length."""

from __future__ import annotations

import math

from torch import Tensor

from kexue_pl.attention.scaling import Scaling, check_above, log_keys


class EntropyInvariant(Scaling):
    r"""Entropy-invariant attention, "Attention-E" of kexue.fm/archives/8823.

    .. math:: \mathrm{ratio}(n) = 1 + s\left(\frac{\log\max(n, f)}{\log b} - 1\right)

    so that with strength s = 1 the logits are ``log_b(n) q.k / sqrt(d)``. The article derives
    ``kappa log n / d`` from ``H ~ log n - 0.24 lambda d`` and fixes kappa by asking for the
    standard scale at b = 512. With b the training length a model trained at that length alone is
    unchanged by the factor, so one checkpoint can be compared with and without it. The constant of
    the derivation damps the growth of the entropy rather than cancelling it (docs/attention.md,
    measured).

    Args:
        base: b, the number of keys at which the ratio is 1; more than 1.
        floor: f, smallest n that is told apart; 16 in the author's own code, at least 1 and at most
            b.
        strength: s; 1 is the article, 0 the standard scale.

    Raises:
        ValueError: for a base of at most 1, or a floor outside [1, base].

    >>> import torch
    >>> EntropyInvariant(base=64).ratio(torch.tensor([64, 4096]), d=64).tolist()
    [1.0, 2.0]
    """

    def __init__(self, base: float = 512.0, floor: float = 16.0, strength: float = 1.0) -> None:
        super().__init__()
        self.base = check_above("EntropyInvariant", "base", base, 1.0)
        if not 1.0 <= floor <= base:
            raise ValueError(
                f"EntropyInvariant: floor={floor} must be between 1 and base={base}; "
                "set attention.floor, or attention.base to a longer length"
            )
        self.floor = floor
        self.strength = strength

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``1 + strength (log max(n, floor) / log base - 1)``."""
        return 1.0 + self.strength * (log_keys(n, self.floor) / math.log(self.base) - 1.0)
