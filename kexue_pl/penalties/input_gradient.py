"""Penalty on the gradient of the loss with respect to the input (or its embedding)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kexue_pl.penalties.base import (
    Closure,
    Penalty,
    check_choice,
    check_positive,
    require_embeddings,
)
from kexue_pl.penalties.double_backward import (
    check_twice_differentiable,
    differentiable_gradients,
    math_attention,
)
from kexue_pl.penalties.embedding import Seen, captured, shifted
from kexue_pl.penalties.replay import Replay


def input_gradient_penalty(loss: Tensor, inputs: Tensor) -> Tensor:
    r"""Squared norm of the input gradient, the left side of article 8796.

    .. math:: \frac1B\sum_i \lVert\nabla_{x_i}\ell_i\rVert^2 \text{ for losses } (B,);\qquad
              \lVert\nabla_x\ell\rVert^2 \text{ for a 0-d loss}

    Args:
        loss: 0-d, or (B,) one loss a sample; samples must not interact.
        inputs: (B, ...) float tensor with ``requires_grad`` from which ``loss`` was computed.

    Returns:
        0-d tensor of the loss's dtype, differentiable with respect to the parameters.

    Raises:
        ValueError: if ``loss`` has more than one dimension.

    Source: https://kexue.fm/archives/8796.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]], requires_grad=True)
        >>> input_gradient_penalty(x.square().sum(1), x).item()     # gradients (2, 4) and (6, 0)
        28.0
    """
    if loss.dim() > 1:
        raise ValueError(
            f"loss of shape {tuple(loss.shape)}: a 0-d loss or per-sample losses (B,) are expected"
        )
    (gradient,) = differentiable_gradients(loss.sum(), [inputs])
    square = gradient.square().sum()
    return square / loss.shape[0] if loss.dim() == 1 else square


class InputGradient(Penalty):
    r"""Total loss :math:`L + \frac w2 P` with :math:`P` the squared gradient norm at the embedded
    input.

    With ``reduction="sample"``, :math:`P=\frac1B\sum_i\lVert\nabla_{e_i}\ell_i\rVert^2` for a loss
    that is the mean of :math:`\ell_i`: computed as :math:`B\lVert\nabla_e L\rVert^2`, it does not
    depend on the batch size and is exact under data parallel training. ``reduction="batch"`` is
    :math:`P=\lVert\nabla_e L\rVert^2`, the form used by bert4keras's example. Gradients are summed
    per occurrence of a token, not per row of the table; occurrences of an ``nn.Embedding``'s
    ``padding_idx`` do not count.

    Args:
        weight: w > 0.
        reduction: "sample" or "batch".
        method: "exact" (double backward; attention runs by its definition) or "finite_difference"
            (:math:`P\approx(L(e+r v)-L(e-r v))/2r` with :math:`v=\nabla_e L` fixed, whose parameter
            gradient is the penalty's; three forwards, no gradient of a gradient).
        step: Euclidean length of the finite difference relative to the norm of the embedded batch.

    Source: https://kexue.fm/archives/8796 and https://kexue.fm/archives/7234 (application to
        embeddings).

    Example:
        >>> inputs, layer = nn.Identity(), nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(layer.weight)
        >>> closure = lambda: layer(inputs(torch.tensor([[1.0, 2.0]]))).mean()
        >>> penalty = InputGradient(weight=1.0)
        >>> penalty.loss(closure, parameters=[], embeddings=inputs).item()   # 3 + (1 + 1) / 2
        4.0
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        reduction: str = "sample",
        method: str = "exact",
        step: float = 1e-2,
    ) -> None:
        check_positive("input_gradient", weight=weight, step=step)
        check_choice("input_gradient", "reduction", reduction, ("sample", "batch"))
        check_choice("input_gradient", "method", method, ("exact", "finite_difference"))
        self.weight, self.reduction, self.method, self.step = weight, reduction, method, step
        self._checked = False

    def loss(
        self, closure: Closure, *, parameters: Sequence[nn.Parameter], embeddings: nn.Module | None
    ) -> Tensor:
        """Plain loss plus half the weighted penalty (see the class)."""
        module = require_embeddings("input_gradient", embeddings)
        if self.method == "finite_difference":
            return self._finite_difference(closure, module)
        with math_attention(), captured(module) as seen:
            loss = closure()
            if not self._checked:
                check_twice_differentiable(loss)
                self._checked = True
            gradients = seen.gradients(loss, create_graph=True)
        penalty = _square(gradients) * self._factor(seen)
        self.value = penalty.detach()
        return loss + 0.5 * self.weight * penalty

    def _factor(self, seen: Seen) -> int:
        return seen.rows if self.reduction == "sample" else 1

    def _finite_difference(self, closure: Closure, module: nn.Module) -> Tensor:
        replay = Replay()
        with captured(module) as seen:
            loss = closure()
        gradients = seen.gradients(loss)
        square = _square(gradients)
        self.value = (square * self._factor(seen)).detach()
        size = _square([x.detach() for x in seen.outputs]).sqrt()
        length = self.step * torch.where(size > 0, size, torch.ones_like(size))
        r = length / square.sqrt().clamp_min(torch.finfo(square.dtype).tiny)
        sides = []
        for sign in (1, -1):
            with replay.again(), shifted(module, [sign * r * g for g in gradients]):
                sides.append(closure())
        # g is a constant here, so the slope is <grad_e L, g> and its parameter gradient that of
        # half the square.
        half = self._factor(seen) * (sides[0] - sides[1]) / (2 * r)
        return loss + self.weight * (half - half.detach() + 0.5 * self.value)


def _square(values: Sequence[Tensor]) -> Tensor:
    return torch.stack([v.square().sum() for v in values]).sum()
