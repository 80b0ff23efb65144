"""Scalable softmax: a learned multiple of log n in every head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kexue_pl.attention.scaling import Scaling, check_above, log_keys, per_head


class SSMax(Scaling):
    """``(s_h log n + b_h) q . k / sqrt(d)`` with s (and b) learned per head, arXiv 2501.19399.

    kexue.fm/archives/8823 is the case ``s = 1 / log 512``, b = 0.

    Args:
        init: starting s, more than 0; ``1 / log(training length)`` starts at the standard scale.
        bias: learn b too, from 0.

    >>> import torch
    >>> round(SSMax(init=0.5).ratio(torch.tensor([[8]]), d=64).item(), 4)
    1.0397
    """

    per_layer = True

    def __init__(self, init: float = 0.43, bias: bool = False) -> None:
        super().__init__()
        check_above("SSMax", "init", init, 0.0)
        self.scale = nn.Parameter(torch.full((1,), float(init)))
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None

    def bind(self, heads: int) -> None:
        """One s, and one b if there is a bias, a head."""
        self.scale = nn.Parameter(self.scale.detach().expand(heads).clone())
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.detach().expand(heads).clone())

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``s log n + b``, broadcast over heads."""
        logs = log_keys(n)
        ratio = logs * per_head(self.scale).to(logs.dtype)
        return ratio if self.bias is None else ratio + per_head(self.bias).to(logs.dtype)
