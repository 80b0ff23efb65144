"""The article's scale before its constant is chosen: kappa log n / d."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kexue_pl.attention.scaling import Scaling, check_above, log_keys, per_head


class Kappa(Scaling):
    """``kappa log(n) q . k / d``, the form derived in kexue.fm/archives/8823, kappa fixed or
    learned.

    Args:
        kappa: the constant, more than 0; None means ``sqrt(d) / log 512``, the article's choice.
        learned: multiply kappa by a trained value a head that starts at 1.

    >>> import torch
    >>> round(Kappa(kappa=2.0).factor(torch.tensor(8), d=16).item(), 4)  # 2 * 2.0794 / 16
    0.2599
    >>> Kappa().ratio(torch.tensor(512), d=64).item()
    1.0
    """

    def __init__(self, kappa: float | None = None, learned: bool = False) -> None:
        super().__init__()
        self.kappa = None if kappa is None else check_above("Kappa", "kappa", kappa, 0.0)
        self.gain = nn.Parameter(torch.ones(1)) if learned else None
        self.per_layer = learned  # type: ignore[misc]

    def bind(self, heads: int) -> None:
        """One gain a head."""
        if self.gain is not None:
            self.gain = nn.Parameter(self.gain.detach().expand(heads).clone())

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``kappa log n / sqrt(d)``, times the learned gain if there is one."""
        kappa = math.sqrt(d) / math.log(512) if self.kappa is None else self.kappa
        ratio = log_keys(n) * (kappa / math.sqrt(d))
        return ratio if self.gain is None else ratio * per_head(self.gain).to(ratio.dtype)
