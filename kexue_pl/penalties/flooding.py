"""Flooding: keep the training loss near a level instead of driving it to zero."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kexue_pl.penalties.base import Closure, Penalty, check_positive


class Flooding(Penalty):
    r"""Total loss :math:`|L-b|+b`: descent above the level b, ascent below it.

    Alternating ascent and descent near b acts like a penalty on :math:`\lVert\nabla_\theta L\rVert`
    (article 7643). Under data parallel training every rank compares its own loss with b.

    Args:
        level: b > 0, in units of the loss.

    Source: https://kexue.fm/archives/7643; Ishida et al., https://arxiv.org/abs/2002.08709.

    Example:
        >>> import torch
        >>> w = torch.tensor(0.25, requires_grad=True)
        >>> total = Flooding(level=1.0).loss(lambda: w * 1.0, parameters=[], embeddings=None)
        >>> total.backward()
        >>> total.item(), w.grad.item()
        (1.75, -1.0)
    """

    def __init__(self, *, level: float = 0.05) -> None:
        check_positive("flooding", level=level)
        self.level = level

    def loss(
        self, closure: Closure, *, parameters: Sequence[nn.Parameter], embeddings: nn.Module | None
    ) -> Tensor:
        """The flooded loss."""
        loss = closure()
        self.value = (loss - self.level).abs().detach()
        return (loss - self.level).abs() + self.level
