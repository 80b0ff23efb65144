"""The scale of Chiang and Cholak: log n beside 1/sqrt(d)."""

from __future__ import annotations

from torch import Tensor

from kexue_pl.attention.scaling import Scaling, log_keys


class NaturalLog(Scaling):
    """``log(n) q . k / sqrt(d)``, arXiv 2202.12172; the natural logarithm, about 6 times the scale
    of kexue.fm/archives/8823 at every length.

    >>> import torch
    >>> round(NaturalLog().ratio(torch.tensor(8), d=64).item(), 4)
    2.0794
    """

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``log n``."""
        return log_keys(n)
