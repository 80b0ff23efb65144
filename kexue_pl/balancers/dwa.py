"""Dynamic weight average."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer


class DWA(Balancer):
    r"""Weight tasks by how slowly their loss fell from one window to the next.

    .. math:: a_i = T\, \mathrm{softmax}_i(r_i / \tau), \quad r_i = \bar L_i(k-1) / \bar L_i(k-2)

    Liu, Johns and Davison 2019 (arXiv 1803.10704). A window (the paper's epoch) is ``window`` calls,
    its loss the mean over the calls in which the task was there; equal weights until two are full.

    Args:
        temperature: tau > 0.
        window: calls a window, >= 1.

    Raises:
        ValueError: a setting out of range.

    >>> import torch
    >>> rule = DWA(temperature=1.0, window=1)
    >>> for losses in ([1.0, 1.0], [1.0, 0.5]):
    ...     _ = rule.weights(None, torch.tensor(losses))
    >>> rule.weights(None, torch.ones(2)).round(decimals=4).tolist()
    [1.2449, 0.7551]
    """

    needs_losses = True

    def __init__(self, *, temperature: float = 2.0, window: int = 100) -> None:
        super().__init__()
        if temperature <= 0 or window < 1:
            raise ValueError(
                f"balancer.temperature={temperature} must be > 0 and balancer.window={window} >= 1"
            )
        self.temperature, self.window = temperature, window

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Scaled softmax of the last two windows' ratio."""
        assert losses is not None
        step = self._count("step")
        total, seen = self._per_task("total", 0.0), self._per_task("seen", 0.0)
        last, before = self._per_task("last", torch.nan), self._per_task("before", torch.nan)
        if step and step % self.window == 0:
            before.copy_(last)
            last.copy_(total / seen)
            total.zero_()
            seen.zero_()
        total[tasks] += losses
        seen[tasks] += 1
        rate = last[tasks] / before[tasks]
        rate = torch.where(rate.isfinite(), rate, 1.0)
        return len(tasks) * torch.softmax(rate / self.temperature, 0)
