"""Penalty on the gradient of the loss with respect to the parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kexue_pl.penalties.base import Closure, Penalty, check_choice, check_positive
from kexue_pl.penalties.closed_form import per_sample_square_norms, recorded_calls
from kexue_pl.penalties.double_backward import (
    check_twice_differentiable,
    differentiable_gradients,
    math_attention,
)
from kexue_pl.penalties.finite_difference import gradients, hessian_gradient, square_norm
from kexue_pl.penalties.replay import Replay


def parameter_gradient_penalty(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    r"""Squared norm of the parameter gradient, the right side of article 8796.

    .. math:: \frac1B\sum_i \lVert\nabla_\theta\ell_i\rVert^2 \text{ for losses } (B,);\qquad
              \lVert\nabla_\theta\ell\rVert^2 \text{ for a 0-d loss}

    The first form bounds the input gradient (``gradient_penalty_bound``) and costs one double
    backward a sample; the second is what gradient descent penalises implicitly and what its critics
    call the batch form: sample gradients cancel in it, so it bounds nothing.

    Args:
        loss: 0-d, or (B,) one loss a sample.
        parameters: theta.

    Returns:
        0-d tensor, differentiable with respect to the parameters.

    Raises:
        ValueError: if ``loss`` has more than one dimension.

    Source: https://kexue.fm/archives/8796; implicit penalty: https://arxiv.org/abs/2009.11162.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> parameter_gradient_penalty(w.square().sum(), [w]).item()       # gradient (2, 4)
        20.0
        >>> parameter_gradient_penalty(w.square(), [w]).item()             # (2, 0) and (0, 4)
        10.0
    """
    if loss.dim() > 1:
        raise ValueError(
            f"loss of shape {tuple(loss.shape)}: a 0-d loss or per-sample losses (B,) are expected"
        )
    if loss.dim() == 0:
        return square_norm(differentiable_gradients(loss, parameters))
    rows = [square_norm(differentiable_gradients(one, parameters)) for one in loss]
    return torch.stack(rows).mean()


class ParameterGradient(Penalty):
    r"""Total loss :math:`L + \frac w2 P` with :math:`P` the squared norm of the parameter gradient.

    ``reduction="batch"``: :math:`P=\lVert\nabla_\theta L\rVert^2` of the batch's mean loss, as in
    bert4keras's relatives; under data parallel training it is the mean over ranks of the local
    batches' penalties, so it depends on the number of ranks. ``reduction="sample"``:
    :math:`P=\frac1B\sum_i\lVert\nabla_\theta\ell_i\rVert^2` by the closed form of
    ``per_sample_square_norms`` (layers: Linear, Embedding, LayerNorm), exact under data parallel
    training.

    Args:
        weight: w > 0.
        reduction: "batch" or "sample".
        method: "exact" (double backward; attention runs by its definition) or "finite_difference"
            (batch only: two more gradients, no gradient of a gradient; runs under compile and fused
            attention).
        step: length of the finite difference relative to the norm of theta.
        uncovered: what a per-sample penalty does with parameters outside those layers, "refuse" or
            "ignore".

    Raises:
        ValueError: for an unknown choice, or the finite difference of a per-sample penalty.

    Source: https://kexue.fm/archives/8796.

    Example:
        >>> w = nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> penalty = ParameterGradient(weight=1.0)
        >>> loss = penalty.loss(lambda: w.square().sum(), parameters=[w], embeddings=None)
        >>> loss.item()   # 5 + (4 + 16) / 2
        15.0
    """

    def __init__(
        self,
        *,
        weight: float = 0.1,
        reduction: str = "batch",
        method: str = "exact",
        step: float = 1e-3,
        uncovered: str = "refuse",
    ) -> None:
        name = "parameter_gradient"
        check_positive(name, weight=weight, step=step)
        check_choice(name, "reduction", reduction, ("batch", "sample"))
        check_choice(name, "method", method, ("exact", "finite_difference"))
        check_choice(name, "uncovered", uncovered, ("refuse", "ignore"))
        if reduction == "sample" and method == "finite_difference":
            raise ValueError(
                "penalty parameter_gradient: method='finite_difference' differentiates the batch's "
                "mean loss only; "
                "set penalty.reduction=batch or penalty.method=exact"
            )
        self.weight, self.reduction, self.method, self.step = weight, reduction, method, step
        self.uncovered = uncovered
        self._checked = False

    def loss(
        self, closure: Closure, *, parameters: Sequence[nn.Parameter], embeddings: nn.Module | None
    ) -> Tensor:
        """Plain loss plus half the weighted penalty (see the class)."""
        trained = [p for p in parameters if p.requires_grad]
        if self.method == "finite_difference":
            return self._finite_difference(closure, trained)
        with math_attention():
            loss, penalty = (
                self._sample(closure, trained)
                if self.reduction == "sample"
                else self._batch(closure, trained)
            )
        self.value = penalty.detach()
        return loss + 0.5 * self.weight * penalty

    def _batch(self, closure: Closure, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        loss = closure()
        self._check(loss)
        return loss, parameter_gradient_penalty(loss, parameters)

    def _sample(self, closure: Closure, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        with recorded_calls(parameters) as calls:
            loss = closure()
        self._check(loss)
        rows = max((call.output.shape[0] for call in calls), default=1)
        norms = per_sample_square_norms(loss * rows, calls, parameters, uncovered=self.uncovered)
        return loss, norms.mean()

    def _check(self, loss: Tensor) -> None:
        if not self._checked:
            check_twice_differentiable(loss)
            self._checked = True

    def _finite_difference(self, closure: Closure, parameters: Sequence[Tensor]) -> Tensor:
        replay = Replay()
        loss = closure()
        gradient = gradients(loss, parameters, retain_graph=True)
        product = hessian_gradient(closure, parameters, gradient, step=self.step, replay=replay)
        self.value = square_norm(gradient)
        # Its gradient is H g and its value 0: backward adds the penalty's gradient to that of the
        # loss.
        carrier = torch.stack(
            [(p * v).sum() for p, v in zip(parameters, product, strict=True)]
        ).sum()
        return loss + self.weight * (carrier - carrier.detach() + 0.5 * self.value)
