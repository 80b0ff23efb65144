"""IMTL-L: learned scales that bring the losses to one size."""

from __future__ import annotations

from torch import Tensor

from kexue_pl.balancers.adam import adam_step
from kexue_pl.balancers.base import Balancer


class IMTLL(Balancer):
    r"""Learn one log-scale a task so that all scaled losses tend to 1.

    .. math:: L = \sum_i e^{s_i} L_i - s_i, \quad a_i = e^{s_i}, \quad
        \partial L / \partial s_i = e^{s_i} L_i - 1

    Liu et al. 2021, "Towards impartial multi-task learning" (ICLR). The rule learns s with an Adam
    of its own.

    Args:
        lr: Adam step size of s.

    Raises:
        ValueError: ``lr`` is not positive.

    >>> import torch
    >>> rule = IMTLL(lr=0.1)
    >>> first = rule.weights(None, torch.tensor([4.0, 0.25]))
    >>> first.tolist(), rule.weights(None, torch.tensor([4.0, 0.25])).round(decimals=4).tolist()
    ([1.0, 1.0], [0.9048, 1.1052])
    """

    needs_losses = True

    def __init__(self, *, lr: float = 0.01) -> None:
        super().__init__()
        if lr <= 0:
            raise ValueError(f"balancer.lr={lr} must be positive")
        self.lr = lr

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The scales, before this call's step."""
        assert losses is not None
        s = self._per_task("log_scale", 0.0)
        out = s[tasks].exp()
        adam_step(self._state, "log_scale", out * losses - 1, tasks, self.lr)
        return out
