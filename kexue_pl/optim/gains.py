"""Per-coordinate passes of the EG step size, in blocks that stay in the processor's cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kexue_pl.optim.alignment import Sums
from kexue_pl.optim.kernels import fits, fused_finish, fused_move

# Blocks of the operands and of the scratch space fit a level-2 cache together; smaller ones cost
# more calls than they save memory traffic.
BLOCK = 65536
# A raw product has no natural size: one step changes a gain or a scale by at most a factor e.
MAX_EXPONENT = 1.0


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of equally shaped tensors, cut alike: small on a CPU, whole on other devices.

    Example:
        >>> [len(a) for a, in blocks(torch.zeros(BLOCK + 1))]
        [65536, 1]
    """
    first = tensors[0]
    if first.device.type != "cpu" or not all(t.is_contiguous() for t in tensors):
        yield tensors
        return
    flat = [t.view(-1) for t in tensors]
    for start in range(0, first.numel(), BLOCK):
        yield tuple(t[start : start + BLOCK] for t in flat)


def move_log_gain(
    log_gain: Tensor,
    gradient: Tensor,
    direction: Tensor,
    *,
    rate: float,
    rule: str,
    sums: Sums,
    bounds: Sequence[float],
    fused: bool = False,
) -> None:
    r"""Exponentiated gradient on the gains, in place and in log space.

    .. math:: \log p_i \leftarrow \mathrm{clip}\bigl(\log p_i + \gamma\,a_i,\ \log p_{min},
              \log p_{max}\bigr)

    with :math:`a_i=\mathrm{sign}(g_i)\,\mathrm{sign}(d_i)` ("sign"), :math:`g_i d_i` ("raw") or
    :math:`n\,g_i d_i/(\lVert g\rVert\lVert d\rVert)` ("cosine", of mean cos(g, d)).

    Args:
        log_gain: (...) float32 or wider.
        gradient: g, same shape.
        direction: d, same shape, along which agreement means growth.
        rate: gamma, with the sign of the direction and any units in it.
        rule: "sign", "raw" or "cosine".
        sums: of this tensor, for "cosine".
        bounds: of the logarithm.
        fused: one pass over memory where the kernels know the tensors and the rule.

    Example:
        >>> gain = torch.zeros(3)
        >>> g, d = torch.tensor([1e-30, -2.0, 3.0]), torch.tensor([1e-30, 1.0, 0.0])
        >>> sums = Sums(0.0, 0.0, 0.0)
        >>> move_log_gain(gain, g, d, rate=0.5, rule="sign", sums=sums, bounds=(-0.25, 9.0))
        >>> gain
        tensor([ 0.5000, -0.2500,  0.0000])
    """
    low, high = bounds
    if rule == "cosine":
        length = (sums.gradient**0.5) * (sums.direction**0.5)
        rate = rate * gradient.numel() / length if length > 0 else 0.0
    if fused and rule == "sign" and fits(log_gain, gradient, direction):
        fused_move(log_gain, gradient, direction, rate=rate, low=low, high=high)
        return
    for k, g, d in blocks(log_gain, gradient, direction):
        # The signs are multiplied, not the values: the product of two small numbers underflows.
        if rule == "sign":
            signs = torch.sign(g).to(k.dtype), torch.sign(d).to(k.dtype)
            k.addcmul_(*signs, value=rate).clamp_(low, high)
        else:
            exponent = (g.to(k.dtype) * d.to(k.dtype)).mul_(rate)
            k.add_(exponent.clamp_(-MAX_EXPONENT, MAX_EXPONENT)).clamp_(low, high)


def finish_step(
    parameter: Tensor,
    delta: Tensor,
    *,
    log_gain: Tensor | None,
    log_scale: float,
    decay: float = 0.0,
    fused: bool = False,
    keep_delta: bool = True,
) -> None:
    r"""Turn the optimizer's step into the adapted one, in place: exactly nothing where s p = 1.

    .. math:: \theta \leftarrow \theta + (s\,p-1)\,d + (s-1)\,w,\qquad
              d=\theta-(1-\lambda)\,\theta_{old},\qquad w=-\lambda\,\theta_{old}

    Args:
        parameter: theta after the optimizer's step.
        delta: minus theta before the step; becomes d, the part of the step that the data made.
        log_gain: log p, or None for p = 1.
        log_scale: log s, where the learning rate does not carry it.
        decay: lambda, decoupled weight decay of this step, which gains leave alone.
        fused: one pass over memory where the kernels know the tensors.
        keep_delta: whether d is wanted in ``delta``; the kernels save the writing otherwise.

    Example:
        >>> w, delta = torch.tensor([1.25, 1.25]), torch.tensor([-1.0, -1.0])
        >>> doubled = torch.tensor([2.0, 1.0]).log()
        >>> finish_step(w, delta, log_gain=doubled, log_scale=0.0)
        >>> w, delta
        (tensor([1.5000, 1.2500]), tensor([0.2500, 0.2500]))
    """
    factor = math.expm1(log_scale)
    if fused and log_gain is not None and fits(parameter, delta, log_gain):
        rows, numbers = [(parameter, delta, log_gain)], [(log_scale, decay)]
        fused_finish(rows, numbers, write=keep_delta)
        return
    for block in blocks(parameter, delta, *([] if log_gain is None else [log_gain])):
        p, d = block[0], block[1]
        decayed = d * (decay * factor) if decay and factor else None
        if decay:
            d.mul_(1 - decay)
        d.add_(p)
        if log_gain is not None:
            gain = torch.exp(block[2] + log_scale if log_scale else block[2])
            p.addcmul_(gain.sub_(1).to(p.dtype), d)
        elif factor:
            p.add_(d, alpha=factor)
        if decayed is not None:
            p.add_(decayed)


def apply_gain(gradient: Tensor, log_gain: Tensor, *, out: Tensor) -> None:
    """Write ``g * p`` to ``out``, of the gradient's shape and dtype.

    Example:
        >>> out = torch.empty(2)
        >>> apply_gain(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 1.0]).log(), out=out)
        >>> out
        tensor([2., 3.])
    """
    for o, g, k in blocks(out, gradient, log_gain):
        if o.dtype == k.dtype:
            torch.exp(k, out=o).mul_(g)
        else:
            torch.mul(g, torch.exp(k).to(g.dtype), out=o)
