"""Homoscedastic uncertainty."""

from __future__ import annotations

from torch import Tensor

from kexue_pl.balancers.adam import adam_step
from kexue_pl.balancers.base import Balancer


class Uncertainty(Balancer):
    r"""Learn one log-variance a task.

    .. math:: L = \sum_i \tfrac12 e^{-s_i} L_i + \tfrac12 s_i, \quad a_i = \tfrac12 e^{-s_i}

    Kendall, Gal and Cipolla 2018 (arXiv 1705.07115). The rule learns s with an Adam of its own, so
    it needs no place in the model's optimizer. At the optimum :math:`s_i = \log L_i`, that is the
    real-time rule; a loss scale of 100 needs about log(100) / lr steps to be found.

    Args:
        lr: Adam step size of s.

    Raises:
        ValueError: ``lr`` is not positive.

    >>> import torch
    >>> Uncertainty(lr=0.1).weights(None, torch.tensor([1.0, 5.0])).round(decimals=4).tolist()
    [0.5, 0.5]
    """

    needs_losses = True

    def __init__(self, *, lr: float = 0.01) -> None:
        super().__init__()
        if lr <= 0:
            raise ValueError(f"balancer.lr={lr} must be positive")
        self.lr = lr

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Half the inverse variances, before this call's step."""
        assert losses is not None
        s = self._per_task("log_variance", 0.0)
        out = 0.5 * (-s[tasks]).exp()
        adam_step(self._state, "log_variance", 0.5 - out * losses, tasks, self.lr)
        return out
