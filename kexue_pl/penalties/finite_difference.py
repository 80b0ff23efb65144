"""Move parameters and put them back exactly; Hessian-vector products by central differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from kexue_pl.penalties.base import Closure
from kexue_pl.penalties.replay import Replay


def square_norm(values: Sequence[Tensor]) -> Tensor:
    """Sum of squares over all tensors: a 0-d tensor.

    Example:
        >>> square_norm([torch.tensor([3.0]), torch.tensor([4.0])])
        tensor(25.)
    """
    return torch.stack([v.square().sum() for v in values]).sum()


@contextmanager
def moved(
    parameters: Sequence[Tensor], direction: Sequence[Tensor], length: Tensor
) -> Iterator[None]:
    """Parameters plus ``length * direction`` inside the block; restored from copies, hence bitwise,
    after it.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([0.1]))
        >>> with moved([w], [torch.tensor([0.2])], torch.tensor(3.0)):
        ...     inside = w.detach().clone()
        >>> round(inside.item(), 4), w.item() == torch.tensor(0.1).item()
        (0.7, True)
    """
    saved = [p.detach().clone() for p in parameters]
    try:
        # Through .data, which leaves the version counter alone: graphs built before stay valid,
        # because the values are back before anyone runs them.
        for p, d in zip(parameters, direction, strict=True):
            p.data.add_(d * length.to(d.dtype))
        yield
    finally:
        for p, old in zip(parameters, saved, strict=True):
            p.data.copy_(old)


def gradients(
    loss: Tensor, parameters: Sequence[Tensor], *, retain_graph: bool = False
) -> list[Tensor]:
    """``d loss / d parameters`` without a graph; zeros where the loss does not reach.

    Example:
        >>> w = torch.tensor(2.0, requires_grad=True)
        >>> gradients(w**2, [w])
        [tensor(4.)]
    """
    found = torch.autograd.grad(
        loss, list(parameters), retain_graph=retain_graph, allow_unused=True
    )
    return [
        torch.zeros_like(p) if g is None else g.detach()
        for g, p in zip(found, parameters, strict=True)
    ]


def hessian_gradient(
    closure: Closure,
    parameters: Sequence[Tensor],
    gradient: Sequence[Tensor],
    *,
    step: float,
    replay: Replay,
) -> list[Tensor]:
    r"""``H g``, half the gradient of ``||g||^2``, by a central difference.

    .. math:: Hg \approx \frac{\nabla L(\theta+rg)-\nabla L(\theta-rg)}{2r},\qquad
              r=\frac{\text{step}\cdot\lVert\theta\rVert}{\lVert g\rVert}

    Args:
        closure: computes the loss; run twice with the random numbers of ``replay``.
        parameters: the tensors of theta; shifted in place and restored bitwise.
        gradient: g, the gradient of the closure at theta.
        step: length of the shift relative to the norm of theta, 1e-3 by default in its callers.
        replay: the random state of the first evaluation.

    Example:
        >>> w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        >>> loss = lambda: (w**2).sum()
        >>> found = hessian_gradient(loss, [w], gradients(loss(), [w]), step=1e-3, replay=Replay())
        >>> torch.allclose(found[0], torch.tensor([4.0, 8.0], dtype=torch.float64))
        True
    """
    tiny = torch.finfo(gradient[0].dtype).tiny
    size = square_norm([p.detach() for p in parameters]).sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    r = step * size / square_norm(gradient).sqrt().clamp_min(tiny)
    sides = []
    for sign in (1, -1):
        with replay.again(), moved(parameters, gradient, sign * r):
            sides.append(gradients(closure(), parameters))
    return [(up - down) / (2 * r).to(up.dtype) for up, down in zip(*sides, strict=True)]
