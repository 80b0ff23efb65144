"""Both sides of the inequality between input and parameter gradients (article 8796)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kexue_pl.penalties.double_backward import math_attention

FORMS = ("spectral", "product", "frobenius", "first_layer")


@dataclass(frozen=True)
class GradientBound:
    r"""Sides of :math:`\lVert\nabla_x\ell\rVert^2\,c(x)\le\lVert\nabla_\theta\ell\rVert^2`, per
    sample.

    Attributes:
        input_square: :math:`\lVert\nabla_{x_i}\ell_i\rVert^2`, (B,).
        coefficient: :math:`c(x_i)`, (B,).
        parameter_square: :math:`\lVert\nabla_\theta\ell_i\rVert^2` over the affine layers, (B,).
    """

    input_square: Tensor
    coefficient: Tensor
    parameter_square: Tensor

    @property
    def lower(self) -> Tensor:
        """The left side, (B,)."""
        return self.input_square * self.coefficient

    @property
    def upper(self) -> Tensor:
        """The right side, (B,)."""
        return self.parameter_square

    @property
    def ratio(self) -> Tensor:
        """Left side over right side, (B,), at most 1 up to rounding; 0 where both are 0."""
        return torch.where(self.lower == 0, torch.zeros_like(self.lower), self.lower / self.upper)

    def mean(self) -> tuple[float, float]:
        """The batch form that holds: the mean of both sides over the samples.

        The gradient of the batch's MEAN loss on the right does not bound anything: sample gradients
        cancel in it.
        """
        return self.lower.mean().item(), self.upper.mean().item()


def gradient_penalty_bound(
    module: nn.Module,
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    form: str = "spectral",
) -> GradientBound:
    r"""Both sides of the inequality for a chain of affine layers with any per-sample maps between
    them.

    .. math:: \lVert\nabla_x\ell\rVert^2\sum_t
              \frac{1+\lVert h_t\rVert^2}{\lVert W_t\rVert^2\lVert\partial h_t/\partial x\rVert^2}
              \le \lVert\nabla_\theta\ell\rVert^2

    with :math:`z_t=W_th_t+b_t` (the 1 only where there is a bias). Proof: with
    :math:`\delta=\partial\ell/\partial z_t` layer t contributes
    :math:`\lVert\delta\rVert^2(1+\lVert h_t\rVert^2)` to the right, and
    :math:`\nabla_x\ell=(\partial h_t/\partial x)^\top W_t^\top\delta`.

    Args:
        module: the network; its ``nn.Linear`` layers are the affine layers, each called once on (B,
            n) inputs.
        inputs: x, (B, ...), any float dtype (float64 to compare with 1).
        loss: maps the network's output to per-sample losses (B,).
        form: "spectral"; "product" (:math:`\lVert W_t\,\partial h_t/\partial x\rVert_2` in the
            denominator, tightest); "frobenius" (weakest, no decomposition); "first_layer"
            (:math:`(1+\lVert x\rVert^2)/\lVert W_1\rVert_2^2`, no
            Jacobian: the cheap monitor).

    Returns:
        the per-sample sides.

    Raises:
        ValueError: for an unknown form or a loss that is not (B,).
        RuntimeError: where the inequality does not hold or is not known to: a layer whose weights
            see several positions or are used twice, a path around a layer (residual), samples that
            interact (batch normalisation).

    Source: https://kexue.fm/archives/8796; https://arxiv.org/abs/2111.15090.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> _ = nn.init.ones_(net.weight), nn.init.zeros_(net.bias)
        >>> bound = gradient_penalty_bound(net, torch.tensor([[1.0, 2.0]]), lambda z: z[:, 0])
        >>> round(bound.lower.item(), 4), bound.upper.item()    # 2 (1 + 5) / 2 and 1 + 5: tight
        (6.0, 6.0)
    """
    return gradient_penalty_bounds(module, inputs, loss, forms=(form,))[form]


def gradient_penalty_bounds(
    module: nn.Module,
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    forms: Sequence[str] = FORMS,
) -> dict[str, GradientBound]:
    """Several forms of ``gradient_penalty_bound`` from the same gradients and Jacobians.

    Example:
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> list(gradient_penalty_bounds(nn.Linear(2, 1), x, lambda z: z[:, 0]))
        ['spectral', 'product', 'frobenius', 'first_layer']
    """
    for form in forms:
        if form not in FORMS:
            raise ValueError(f"form={form!r} is refused, accepted: {', '.join(FORMS)}")
    _refuse_interaction(module)
    with math_attention(), torch.enable_grad():
        x = inputs.detach().clone().requires_grad_()
        with _affine_calls(module) as calls:
            losses = loss(module(x))
        _check(calls, losses, x)
        _refuse_bypass(module, x, loss, calls)
        gradient, *deltas = _slopes(losses, [x, *(z for _, _, z in calls)])
        coefficients = _coefficients(calls, x, forms)
    right = torch.zeros_like(losses)
    for (layer, h, _), delta in zip(calls, deltas, strict=True):
        right = right + delta.square().sum(1) * _size(layer, h)
    left = gradient.flatten(1).square().sum(1)
    return {
        form: GradientBound(left, c.detach(), right.detach()) for form, c in coefficients.items()
    }


def _slopes(losses: Tensor, at: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(losses.sum(), list(at), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(v) if g is None else g for g, v in zip(found, at, strict=True)]


_Call = tuple[nn.Linear, Tensor, Tensor]


@contextmanager
def _affine_calls(module: nn.Module) -> Iterator[list[_Call]]:
    calls: list[_Call] = []

    def hook(layer: nn.Module, args: Any, output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        calls.append((layer, args[0], output))

    handles = [m.register_forward_hook(hook) for m in module.modules() if isinstance(m, nn.Linear)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _size(layer: nn.Linear, h: Tensor) -> Tensor:
    return h.detach().square().sum(1) + (0.0 if layer.bias is None else 1.0)


def _jacobian(h: Tensor, x: Tensor) -> Tensor:
    """(B, n, m): d h (B, n) / d x (B, ...) per sample; the identity when h is x itself."""
    basis = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
    if h is x:
        return basis.expand(h.shape[0], -1, -1)
    every = basis[:, None, :].expand(-1, h.shape[0], -1)
    (rows,) = torch.autograd.grad(
        h, x, every, retain_graph=True, is_grads_batched=True, allow_unused=True
    )
    if rows is None:
        return torch.zeros(h.shape[0], h.shape[1], x[0].numel(), dtype=x.dtype, device=x.device)
    return rows.transpose(0, 1).flatten(2)


def _coefficients(calls: Sequence[_Call], x: Tensor, forms: Sequence[str]) -> dict[str, Tensor]:
    found = {form: x.new_zeros(x.shape[0]) for form in forms}
    for index, (layer, h, _) in enumerate(calls):
        jacobian = None
        for form in forms:
            if form == "first_layer":
                if index == 0:
                    found[form] = found[form] + _weigh(layer, h, _first(layer, h, x))
                continue
            jacobian = _jacobian(h, x) if jacobian is None else jacobian
            found[form] = found[form] + _weigh(layer, h, _norm(layer, jacobian, form))
    return found


def _first(layer: nn.Linear, h: Tensor, x: Tensor) -> Tensor:
    if h is not x:
        raise RuntimeError(
            "form='first_layer' needs the first affine layer to act on the input itself; use "
            "form='spectral'"
        )
    norm: Tensor = torch.linalg.matrix_norm(layer.weight.detach(), 2)
    return norm.expand(h.shape[0])


def _norm(layer: nn.Linear, jacobian: Tensor, form: str) -> Tensor:
    weight, matrix_norm = layer.weight.detach(), torch.linalg.matrix_norm
    order: Any = "fro" if form == "frobenius" else 2
    if form == "product":
        product: Tensor = matrix_norm(weight @ jacobian, order)
        return product
    bound: Tensor = matrix_norm(weight, order) * matrix_norm(jacobian, order)
    return bound


def _weigh(layer: nn.Linear, h: Tensor, norm: Tensor) -> Tensor:
    """(1 + |h|^2) / norm^2; a dead layer has zero gradient on the left and contributes 0."""
    alive = norm > 0
    safe = torch.where(alive, norm, torch.ones_like(norm)).square()
    return torch.where(alive, _size(layer, h) / safe, torch.zeros_like(norm))


def _refuse_interaction(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training:
            raise RuntimeError(
                f"module {name!r} ({type(part).__name__}) in training mode mixes the samples of a "
                "batch: per-sample "
                "gradients do not exist; call eval() or use nn.LayerNorm"
            )


def _check(calls: Sequence[_Call], losses: Tensor, x: Tensor) -> None:
    if losses.shape != x.shape[:1]:
        raise ValueError(
            f"loss returned shape {tuple(losses.shape)}: per-sample losses {tuple(x.shape[:1])} "
            "expected"
        )
    if not calls:
        raise RuntimeError(
            "the network called no nn.Linear: the inequality speaks about affine layers"
        )
    seen: set[int] = set()
    for layer, h, _ in calls:
        if h.dim() != 2 or h.shape[0] != x.shape[0]:
            raise RuntimeError(
                f"an nn.Linear saw an input of shape {tuple(h.shape)}: its weights are shared over "
                "positions, where "
                "the inequality fails (opposite gradients cancel in the weights, not in the input)"
            )
        if id(layer.weight) in seen:
            raise RuntimeError(
                "an nn.Linear is used twice in one forward (shared weights): its gradients may "
                "cancel, the "
                "inequality is not known to hold"
            )
        seen.add(id(layer.weight))


def _refuse_bypass(
    module: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor], calls: Sequence[_Call]
) -> None:
    """Cut the graph at each affine layer in turn: a loss the input still reaches has a bypass."""
    state = torch.get_rng_state()
    for index, (layer, _, _) in enumerate(calls):
        handle = layer.register_forward_hook(lambda _m, _i, z: z.detach().requires_grad_())
        try:
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(state)
                cut = loss(module(x)).sum()
        finally:
            handle.remove()
        if torch.autograd.grad(cut, x, allow_unused=True)[0] is not None:
            raise RuntimeError(
                f"affine layer {index} of {len(calls)} is no cut of the network: a path (residual "
                "connection) leads "
                "around it, where the inequality fails"
            )
