"""PGD: adversarial training on the embedded input by several projected gradient steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kexue_pl.penalties.base import Closure, Penalty, check_positive, require_embeddings
from kexue_pl.penalties.embedding import captured, row_norm, shifted, steepest


def project(delta: Tensor, radius: float) -> Tensor:
    """Scale the rows of ``delta`` (B, ...) that are longer than ``radius`` back to that length.

    Example:
        >>> project(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    return delta * (radius / row_norm(delta).clamp_min(radius))


class PGD(Penalty):
    r"""Total loss :math:`L(e) + w\,L(e+\delta_K)` with K projected ascent steps.

    .. math:: \delta_{k+1} = \Pi_{\lVert\cdot\rVert\le\epsilon}\bigl(\delta_k
              + \alpha\,\nabla L(e+\delta_k)/\lVert\nabla L(e+\delta_k)\rVert\bigr)

    per sample, :math:`\delta_0=0`; K + 1 forwards and backwards. Padding is not shifted.

    Args:
        epsilon: radius of the ball, > 0.
        alpha: length of one step, > 0.
        steps: K >= 1.
        weight: w > 0.

    Source: https://kexue.fm/archives/7234; Madry et al., https://arxiv.org/abs/1706.06083.

    Example:
        >>> inputs = nn.Identity()
        >>> closure = lambda: inputs(torch.tensor([[3.0, 4.0]])).square().sum()
        >>> penalty = PGD(epsilon=5.0, alpha=3.0, steps=3)
        >>> penalty.loss(closure, parameters=[], embeddings=inputs).item()          # 25 + 100
        125.0
    """

    def __init__(
        self, *, epsilon: float = 0.5, alpha: float = 0.2, steps: int = 3, weight: float = 1.0
    ) -> None:
        check_positive("pgd", epsilon=epsilon, alpha=alpha, steps=steps, weight=weight)
        self.epsilon, self.alpha, self.steps, self.weight = epsilon, alpha, int(steps), weight

    def loss(
        self, closure: Closure, *, parameters: Sequence[nn.Parameter], embeddings: nn.Module | None
    ) -> Tensor:
        """Plain loss plus the weighted loss at the last shifted input."""
        module = require_embeddings("pgd", embeddings)
        with captured(module) as seen:
            loss = closure()
        gradients = seen.gradients(loss)
        deltas = [torch.zeros_like(g) for g in gradients]
        for step in range(self.steps):
            ascent = steepest(gradients, self.alpha)
            deltas = [project(d + a, self.epsilon) for d, a in zip(deltas, ascent, strict=True)]
            with captured(module) as seen, shifted(module, deltas):
                adversarial = closure()
            if step + 1 < self.steps:
                gradients = seen.gradients(adversarial)
        self.value = adversarial.detach()
        return loss + self.weight * adversarial
