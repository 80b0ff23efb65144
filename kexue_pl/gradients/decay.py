"""Weight decay as an auxiliary task that may not be harmed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def decay_as_task(parameters: Sequence[nn.Parameter]) -> float:
    r"""Add to ``.grad`` the least multiple of the parameters after which the step does not grow them.

    .. math:: u = g_0 + \lambda \theta, \quad
        \lambda = \frac{\mathrm{relu}(-\langle g_0, \theta\rangle)}{\lVert\theta\rVert^2}

    The application of article 8907 (kexue.fm/archives/8907): :math:`\tfrac12\lVert\theta\rVert^2` is an
    auxiliary with gradient :math:`\theta`; where the main gradient shrinks the weights already, nothing
    is added. One coefficient for all parameters given; call it before clipping and the step, with
    gradients that are unscaled and equal on all ranks.

    Args:
        parameters: those to guard; parameters without gradient are left out.

    Returns:
        The coefficient lambda; 0 where nothing was added, or where a gradient is not finite.

    >>> w = nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> w.grad = torch.tensor([-3.0, 1.0])
    >>> decay_as_task([w]), w.grad.tolist()
    (1.0, [-2.0, 2.0])
    """
    held = [(p, p.grad) for p in parameters if p.grad is not None]
    if not held:
        return 0.0
    with torch.no_grad():
        inner: Tensor = torch.stack([(p.double() * g.double()).sum() for p, g in held]).sum()
        square: Tensor = torch.stack([p.double().square().sum() for p, _ in held]).sum()
        if not bool(inner.isfinite()) or float(square) == 0 or float(inner) >= 0:
            return 0.0
        factor = -float(inner) / float(square)
        for p, g in held:
            g.add_(p, alpha=factor)
    return factor
