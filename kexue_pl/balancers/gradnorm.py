"""GradNorm: learn weights so that gradient norms follow the training rates."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.adam import adam_step
from kexue_pl.balancers.base import Balancer, positive


class GradNorm(Balancer):
    r"""Learn weights that make slow tasks pull harder.

    .. math:: \min_w \sum_i \Big| w_i \lVert g_i\rVert - \bar n\, r_i^\alpha \Big|, \quad
        \bar n = \frac1T \sum_j w_j \lVert g_j\rVert, \quad
        r_i = \frac{L_i / L_i(0)}{\frac1T \sum_j L_j / L_j(0)}

    Chen et al. 2018 (arXiv 1711.02257). The target is held constant, w takes one Adam step a call
    and is renormalised to sum to the number of live tasks. The norms are divided by their mean
    first, which leaves the minimiser alone and makes the rule free of the gradients' common scale.

    Args:
        alpha: strength of the pull on slow tasks, >= 0; 0 equalises the norms.
        lr: Adam step size of w.

    Raises:
        ValueError: ``alpha`` < 0 or ``lr`` <= 0, or a loss is not positive.

    >>> import torch
    >>> rule = GradNorm(alpha=0.0, lr=0.1)
    >>> gram = torch.diag(torch.tensor([1.0, 9.0]))
    >>> rule.weights(gram, torch.ones(2)).round(decimals=4).tolist()
    [1.1, 0.9]
    """

    needs_gram = True
    needs_losses = True

    def __init__(self, *, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        if alpha < 0 or lr <= 0:
            raise ValueError(f"balancer.alpha={alpha} must be >= 0 and balancer.lr={lr} > 0")
        self.alpha, self.lr = alpha, lr

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The learned weights of the live tasks after one step."""
        assert gram is not None and losses is not None
        w, start = self._per_task("weights", 1.0), self._per_task("start", torch.nan)
        positive(losses, tasks, self.name)
        start[tasks] = torch.where(start[tasks].isnan(), losses, start[tasks])
        norms = gram.diagonal().sqrt()
        norms = norms / norms.mean()
        rate = losses / start[tasks]
        now = w[tasks] * norms
        target = now.mean() * (rate / rate.mean()).pow(self.alpha)
        adam_step(self._state, "weights", torch.sign(now - target) * norms, tasks, self.lr)
        w[tasks] = w[tasks].clamp(min=1e-3)
        return w[tasks] * (len(tasks) / w[tasks].sum())
