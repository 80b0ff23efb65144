"""FGM: adversarial training on the embedded input by one gradient step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kexue_pl.penalties.base import Closure, Penalty, check_positive, require_embeddings
from kexue_pl.penalties.embedding import captured, shifted, steepest


class FGM(Penalty):
    r"""Total loss :math:`L(e) + w\,L(e+\delta)` with
    :math:`\delta_i=\epsilon\,\nabla_{e_i}L/\lVert\nabla_{e_i}L\rVert`.

    To first order :math:`L(e+\delta)\approx L(e)+\epsilon\lVert\nabla_e L\rVert`: adversarial
    training is a gradient penalty. Two forwards and three backwards of parts, no gradient of a
    gradient. Padding is not shifted.

    Args:
        epsilon: length of the shift of one sample's embedded input (all its positions together), >
            0.
        weight: w > 0.

    Source: https://kexue.fm/archives/7234; Miyato et al., https://arxiv.org/abs/1605.07725.

    Example:
        >>> import torch
        >>> inputs = nn.Identity()
        >>> closure = lambda: inputs(torch.tensor([[3.0, 4.0]])).square().sum()
        >>> FGM(epsilon=5.0).loss(closure, parameters=[], embeddings=inputs).item()   # 25 + 100
        125.0
    """

    def __init__(self, *, epsilon: float = 0.5, weight: float = 1.0) -> None:
        check_positive("fgm", epsilon=epsilon, weight=weight)
        self.epsilon, self.weight = epsilon, weight

    def loss(
        self, closure: Closure, *, parameters: Sequence[nn.Parameter], embeddings: nn.Module | None
    ) -> Tensor:
        """Plain loss plus the weighted loss at the shifted input."""
        module = require_embeddings("fgm", embeddings)
        with captured(module) as seen:
            loss = closure()
        deltas = steepest(seen.gradients(loss), self.epsilon)
        with shifted(module, deltas):
            adversarial = closure()
        self.value = adversarial.detach()
        return loss + self.weight * adversarial
