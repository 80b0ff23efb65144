"""Reciprocal of the current loss."""

from __future__ import annotations

from torch import Tensor

from kexue_pl.balancers.base import Balancer, positive


class RealTime(Balancer):
    r"""Weight each task by the reciprocal of its current loss, :math:`a_i = 1/\mathrm{sg}(L_i)`.

    Article 8870 (kexue.fm/archives/8870), "real-time state". The gradient is that of
    :math:`\sum_i \log L_i`; the balanced value itself is identically T, so log the raw losses.
    Invariant to :math:`L_i \to c L_i`, **not** to :math:`L_i \to L_i + b`; under SGD its step grows
    as 1/L near zero loss.

    Raises:
        ValueError: a loss is zero or negative, naming the task.

    >>> import torch
    >>> RealTime().weights(None, torch.tensor([0.5, 4.0])).tolist()
    [2.0, 0.25]
    """

    needs_losses = True

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """1 / losses."""
        assert losses is not None
        return 1 / positive(losses, tasks, self.name)
