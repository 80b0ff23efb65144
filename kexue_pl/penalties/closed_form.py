"""Squared norms of per-sample parameter gradients from one backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from kexue_pl.penalties.double_backward import differentiable_gradients


@dataclass
class Call:
    """One forward of a layer: input, output, and their versions (to notice in-place changes)."""

    module: nn.Module
    input: Tensor
    output: Tensor
    versions: tuple[int, int]


@contextmanager
def recorded_calls(parameters: Sequence[Tensor]) -> Iterator[list[Call]]:
    """Record the forwards of the Linear, Embedding and LayerNorm layers that own ``parameters``."""
    wanted, calls = {id(p) for p in parameters}, list[Call]()

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if type(module) not in _SQUARES or not wanted & {
            id(p) for p in module.parameters(recurse=False)
        }:
            return
        h, z = args[0], output
        calls.append(Call(module, h, z, (h._version, z._version)))

    handle = register_module_forward_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()


def _check(calls: Sequence[Call], parameters: Sequence[Tensor], uncovered: str) -> list[Call]:
    rows = max(call.output.shape[0] for call in calls)
    kept = [call for call in calls if call.output.shape[0] == rows]
    if len(kept) < len(calls) and uncovered == "refuse":
        odd = next(call for call in calls if call.output.shape[0] != rows)
        raise RuntimeError(
            f"closed form: {type(odd.module).__name__} saw {odd.output.shape[0]} rows, others "
            f"{rows}: rows must be samples in every layer; use penalty.reduction=batch or leave "
            "such layers (position embeddings) out: penalty.uncovered=ignore"
        )
    owned = _owned_once(kept)
    missing = [tuple(p.shape) for p in parameters if p.requires_grad and id(p) not in owned]
    if missing and uncovered == "refuse":
        raise RuntimeError(
            f"closed form: {len(missing)} parameters belong to no nn.Linear, nn.Embedding or "
            f"nn.LayerNorm of this forward (shapes {missing[:3]}); use penalty.reduction=batch or "
            "leave them out: penalty.uncovered=ignore"
        )
    return kept


def _owned_once(calls: Sequence[Call]) -> set[int]:
    owned: set[int] = set()
    for call in calls:
        name, own = (
            type(call.module).__name__,
            {id(p) for p in call.module.parameters(recurse=False)},
        )
        if owned & own:
            raise RuntimeError(
                f"closed form: the parameters of {name} were used twice in one forward (tied or "
                "re-used weights), so their per-sample gradient is no sum over one call; use "
                "penalty.reduction=batch"
            )
        owned |= own
        if (call.input._version, call.output._version) != call.versions:
            raise RuntimeError(
                f"closed form: a tensor around {name} was changed in place after the layer; use "
                "the activation with inplace=False, or penalty.reduction=batch"
            )
    return owned


def _linear(call: Call, delta: Tensor) -> Tensor:
    layer = call.module
    h = call.input.reshape(call.input.shape[0], -1, call.input.shape[-1])
    d = delta.reshape(delta.shape[0], -1, delta.shape[-1])
    bias = d.sum(1).square().sum(1) if layer.bias is not None else d.new_zeros(d.shape[0])
    if d.shape[1] == 1:
        return d.square().sum((1, 2)) * h.square().sum((1, 2)) + bias
    if d.shape[1] ** 2 <= d.shape[2] * h.shape[2]:
        return ((d @ d.transpose(1, 2)) * (h @ h.transpose(1, 2))).sum((1, 2)) + bias
    return (d.transpose(1, 2) @ h).square().sum((1, 2)) + bias


def _embedding(call: Call, delta: Tensor) -> Tensor:
    ids = call.input.reshape(call.input.shape[0], -1)
    d = delta.reshape(ids.shape[0], ids.shape[1], -1)
    padding = call.module.padding_idx
    same = ids[:, :, None] == ids[:, None, :]
    if isinstance(padding, int):
        same = same & (ids != padding)[:, :, None]
    return ((d @ d.transpose(1, 2)) * same).sum((1, 2))


def _layer_norm(call: Call, delta: Tensor) -> Tensor:
    layer = call.module
    assert isinstance(layer, nn.LayerNorm)
    normalised = nn.functional.layer_norm(call.input, layer.normalized_shape, None, None, layer.eps)
    rows, width = delta.shape[0], layer.normalized_shape
    total = delta.new_zeros(rows)
    if layer.weight is not None:
        total = total + (delta * normalised).reshape(rows, -1, *width).sum(1).square().flatten(
            1
        ).sum(1)
    if layer.bias is not None:
        total = total + delta.reshape(rows, -1, *width).sum(1).square().flatten(1).sum(1)
    return total


_SQUARES = {nn.Linear: _linear, nn.Embedding: _embedding, nn.LayerNorm: _layer_norm}


def per_sample_square_norms(
    loss: Tensor, calls: Sequence[Call], parameters: Sequence[Tensor], *, uncovered: str = "refuse"
) -> Tensor:
    r"""``||grad_theta l_i||^2`` for every sample of a sum-reduced loss, differentiable.

    With :math:`\delta=\partial L/\partial z` at the output of an affine layer with input h:

    .. math:: \lVert\nabla_W\rVert^2+\lVert\nabla_b\rVert^2
              = \sum_{s,t}(\delta_s\cdot\delta_t)(h_s\cdot h_t)
              + \Bigl\lVert\sum_t\delta_t\Bigr\rVert^2

    over the positions s, t of one sample; ``nn.Embedding`` and ``nn.LayerNorm`` likewise.

    Args:
        loss: 0-d, the SUM of the samples' losses (a mean times B); samples must not interact.
        calls: from ``recorded_calls`` around the forward.
        parameters: theta; every one must be seen in ``calls``, or with ``uncovered="ignore"`` is
            left out.
        uncovered: "refuse" or "ignore".

    Returns:
        (B,) tensor.

    Raises:
        RuntimeError: for weights used twice in one forward, in-place changes, rows that are no
            samples, or uncovered parameters.

    Source: the equality inside the proof of https://kexue.fm/archives/8796.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> x = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
        >>> with recorded_calls(list(layer.parameters())) as calls:
        ...     loss = layer(x).sum()
        >>> norms = per_sample_square_norms(loss, calls, list(layer.parameters()))   # 1 (1 + |x|^2)
        >>> norms.tolist()
        [6.0, 10.0]
    """
    if not calls:
        raise RuntimeError(
            "closed form: the forward called no nn.Linear; use penalty.reduction=batch"
        )
    calls = _check(calls, parameters, uncovered)
    deltas = differentiable_gradients(loss, [call.output for call in calls])
    return torch.stack(
        [_SQUARES[type(c.module)](c, d) for c, d in zip(calls, deltas, strict=True)]
    ).sum(0)
