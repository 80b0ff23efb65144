"""Moving averages round any rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer


class EMA(Balancer):
    r"""Smooth a rule's weights, or the Gram it sees, over steps.

    .. math:: a(k) = \beta\, a(k-1) + (1-\beta)\, \hat a(k) \qquad
        \text{or} \qquad \bar G(k) = \beta\, \bar G(k-1) + (1-\beta)\, G(k)

    ``of="weights"`` is CR-MOGM (Zhou et al. 2022, NeurIPS; the average starts at the first weights).
    ``of="gram"`` is in the spirit of MoCo (Fernando et al. 2023, ICLR), which tracks the gradients
    themselves; it is bias-corrected, and a pair is averaged over the steps in which both were live.

    Args:
        rule: the rule to smooth.
        decay: beta in [0, 1).
        of: ``"weights"`` or ``"gram"``.

    Raises:
        ValueError: a setting out of range, or ``of="gram"`` round a rule that reads none.

    >>> import torch
    >>> from kexue_pl.balancers import InverseGradNorm
    >>> rule = EMA(InverseGradNorm(), decay=0.5)
    >>> [rule.weights(torch.eye(1) * s).item() for s in (1.0, 4.0)]
    [1.0, 0.75]
    """

    def __init__(
        self, rule: Balancer, *, decay: float = 0.9, of: Literal["weights", "gram"] = "weights"
    ) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"balancer.decay={decay} must lie in [0, 1)")
        if of not in ("weights", "gram"):
            raise ValueError(f"balancer.of={of!r} is neither 'weights' nor 'gram'")
        if rule.needs_matrix or (of == "gram" and not rule.needs_gram):
            raise ValueError(f"balancer.of={of!r} cannot smooth {rule.name}, which reads no Gram")
        self.rule, self.decay, self.of = rule, decay, of
        self.needs_gram, self.needs_losses = rule.needs_gram, rule.needs_losses
        self.heads = rule.heads

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The inner rule's weights with one side smoothed."""
        if self.of == "gram":
            assert gram is not None
            gram = self._smooth_gram(gram, tasks)
        inner = self._inner(gram, losses, tasks)
        if self.of == "gram":
            return inner
        kept = self._per_task("weights", torch.nan)
        old = torch.where(kept[tasks].isnan(), inner, kept[tasks])
        kept[tasks] = self.decay * old + (1 - self.decay) * inner
        return kept[tasks]

    def _inner(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The wrapped rule on all T tasks, the dead ones marked as such."""
        n = self._total
        whole = torch.full((n,), torch.nan, dtype=torch.float64)
        whole[tasks] = 0.0 if losses is None else losses
        full = None
        if gram is not None:
            full = torch.zeros(n, n, dtype=torch.float64)
            full[tasks[:, None], tasks] = gram
        return self.rule.weights(full, whole)[tasks]

    def _smooth_gram(self, gram: Tensor, tasks: Tensor) -> Tensor:
        n, at = self._total, (tasks[:, None], tasks)
        mean = self._state.setdefault("gram", torch.zeros(n, n, dtype=torch.float64))
        seen = self._state.setdefault("seen", torch.zeros(n, n, dtype=torch.float64))
        mean[at] = self.decay * mean[at] + (1 - self.decay) * gram
        seen[at] += 1
        return mean[at] / (1 - torch.pow(self.decay, seen[at]))

    def state_dict(self) -> dict[str, Tensor]:
        """The averages and, under ``rule.``, the wrapped rule's state."""
        inner = {f"rule.{key}": value for key, value in self.rule.state_dict().items()}
        return super().state_dict() | inner

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put both states back."""
        inner = {k.removeprefix("rule."): v for k, v in state.items() if k.startswith("rule.")}
        self.rule.load_state_dict(inner)
        super().load_state_dict({k: v for k, v in state.items() if not k.startswith("rule.")})
