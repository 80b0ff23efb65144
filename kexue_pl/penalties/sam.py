"""SAM: the gradient at the worst point near the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kexue_pl.penalties.base import Closure, Penalty, check_positive
from kexue_pl.penalties.finite_difference import gradients, square_norm
from kexue_pl.penalties.replay import Replay


class SAM(Penalty):
    r"""The loss is computed at :math:`\theta+\rho\,g/\lVert g\rVert`; ``after_backward`` puts
    :math:`\theta` back bitwise.

    To first order this is :math:`L+\rho\lVert\nabla_\theta L\rVert`, the first power of the
    parameter gradient penalty. ``adaptive=True`` measures the ball relative to each weight (ASAM):
    direction :math:`\theta^2 g`, norm of :math:`\theta g`. Both evaluations use the same dropout
    masks. Under data parallel training every rank climbs along its local gradient, as the paper
    does; the weights are equal again before the optimizer's step.

    Args:
        rho: radius, > 0; usual values 0.05 (SAM) and 0.5 (ASAM).
        adaptive: ASAM's scaling.

    Source: Foret et al., https://arxiv.org/abs/2010.01412; Kwon et al.,
        https://arxiv.org/abs/2102.11600.

    Example:
        >>> w = nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> sam = SAM(rho=5.0)
        >>> loss = sam.loss(lambda: w.square().sum() / 2, parameters=[w], embeddings=None)
        >>> loss.backward()
        >>> sam.after_backward()
        >>> loss.item(), w.grad.tolist(), w.tolist()        # at (6, 8), then back
        (50.0, [6.0, 8.0], [3.0, 4.0])
    """

    def __init__(self, *, rho: float = 0.05, adaptive: bool = False) -> None:
        check_positive("sam", rho=rho)
        self.rho, self.adaptive = rho, adaptive
        self._saved: list[tuple[nn.Parameter, Tensor]] = []

    def loss(
        self, closure: Closure, *, parameters: Sequence[nn.Parameter], embeddings: nn.Module | None
    ) -> Tensor:
        """Climb and return the loss there; theta stays moved until ``after_backward``."""
        self.after_backward()
        trained = [p for p in parameters if p.requires_grad]
        replay = Replay()
        gradient = gradients(closure(), trained)
        self._saved = [(p, p.detach().clone()) for p in trained]
        self._climb(trained, gradient)
        with replay.again():
            loss = closure()
        self.value = loss.detach()
        return loss

    @torch.no_grad()
    def _climb(self, parameters: Sequence[Tensor], gradient: Sequence[Tensor]) -> None:
        direction, measure = list(gradient), list(gradient)
        if self.adaptive:
            measure = [p * g for p, g in zip(parameters, gradient, strict=True)]
            direction = [p * m for p, m in zip(parameters, measure, strict=True)]
        norm = square_norm(measure).sqrt()
        length = self.rho / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        for p, d in zip(parameters, direction, strict=True):
            p.add_(d * length.to(d.dtype))

    @torch.no_grad()
    def after_backward(self) -> None:
        """Put theta back from its copy; does nothing if nothing was moved."""
        for parameter, old in self._saved:
            parameter.copy_(old)
        self._saved = []
