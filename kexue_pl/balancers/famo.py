"""FAMO: fast adaptive multitask optimisation."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.adam import adam_step
from kexue_pl.balancers.base import Balancer, positive


class FAMO(Balancer):
    r"""Learn weights that make all losses fall at the same rate, without task gradients.

    .. math:: z = \mathrm{softmax}(\xi), \quad a_i = \frac{z_i / L_i}{\sum_j z_j / L_j}, \quad
        \xi \leftarrow \mathrm{Adam}(\xi,\; J_z^\top [\log L_i - \log L_i^{new}] + \gamma \xi)

    Liu et al. 2023 (arXiv 2306.03792). The new losses are those after the step: pass the same
    batch's to :meth:`observe` (the paper's second forward), or leave it and the next batch's are
    taken, which costs nothing and adds the batches' difference as noise.

    Args:
        lr: Adam step size of xi.
        decay: gamma >= 0.
        floor: (lower bound of) every loss, subtracted first.

    Raises:
        ValueError: a setting out of range, or a loss not above ``floor``.

    >>> import torch
    >>> rule = FAMO(lr=0.1, decay=0.0)
    >>> rule.weights(None, torch.tensor([1.0, 3.0])).tolist()
    [0.75, 0.25]
    >>> rule.observe(torch.tensor([0.5, 3.0]))
    >>> rule.state_dict()["logits"].round(decimals=4).tolist()
    [-0.1, 0.1]
    """

    needs_losses = True

    def __init__(self, *, lr: float = 0.025, decay: float = 0.001, floor: float = 0.0) -> None:
        super().__init__()
        if lr <= 0 or decay < 0:
            raise ValueError(f"balancer.lr={lr} must be > 0 and balancer.decay={decay} >= 0")
        self.lr, self.decay, self.floor = lr, decay, floor

    def observe(self, losses: Tensor) -> None:
        """Learn from the (T,) losses after the step on the same batch."""
        self._learn(losses.detach().to("cpu", torch.float64) - self.floor)
        self._state.pop("before", None)

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Weights from the current logits; remembers the losses for the next call."""
        assert losses is not None
        logits = self._per_task("logits", 0.0)
        raised = positive(losses - self.floor, tasks, self.name)
        whole = torch.full((self._total,), torch.nan, dtype=torch.float64)
        whole[tasks] = raised
        self._learn(whole)
        self._state["before"] = whole
        share = torch.softmax(logits[tasks], 0) / raised
        return share / share.sum()

    def _learn(self, after: Tensor) -> None:
        """One step of the logits from the fall of the log losses of tasks seen both times."""
        if "before" not in self._state:
            return
        fall = self._state["before"].log() - after.log()
        tasks = fall.isfinite().nonzero()[:, 0]
        if len(tasks) == 0:
            return
        logits = self._state["logits"]
        z = torch.softmax(logits[tasks], 0)
        gradient = z * (fall[tasks] - (z * fall[tasks]).sum()) + self.decay * logits[tasks]
        adam_step(self._state, "logits", gradient, tasks, self.lr)
