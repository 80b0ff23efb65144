"""Two ways to the pairwise ranking loss in O(B log B), each with its gradient in closed form.

With labels in groups g of ascending value, A_g the sum of exp(s) over g, B_g that of exp(-s):

    L = log(1 + sum over g of A_g sum over h > g of B_h)
    dL/ds_k = [e^{s_k} sum over h > g(k) of B_h - e^{-s_k} sum over h < g(k) of A_h] / e^L

so that the forward pass knows the gradient already. `sum_kernel` takes it literally, which needs scores
of moderate size; `log_kernel` works with logarithms and is made of differentiable steps. Both take
s (B,) float32 or float64 and y (B,), B > 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["KERNELS", "Kernel", "choose", "log_kernel", "sum_kernel"]

Kernel = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# Scores up to which e^s, and in float64 the sum over pairs, are far from the ends of the range.
_MODERATE = {torch.float32: 40.0, torch.float64: 300.0}


def sum_kernel(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss () and gradient (B,) by sums of exponentials, which are taken in float64.

    One exponential a row; no sort where labels are whole numbers of a small range. Scores beyond 40
    (300 in float64) are not for this kernel.

    >>> [t.tolist() for t in sum_kernel(torch.zeros(2), torch.tensor([0, 1]))]
    [0.693147..., [0.5, -0.5]]
    """
    group, groups = _groups(labels)
    up = torch.exp(scores)
    down = up.reciprocal()
    zero = torch.zeros(groups, dtype=torch.float64, device=scores.device)
    a, b = zero.index_add(0, group, up.double()), zero.index_add(0, group, down.double())
    below = torch.cat([zero[:1], a[:-1].cumsum(0)])
    above = torch.cat([b[1:].flip(0).cumsum(0).flip(0), zero[:1]])
    pairs = a @ above
    rise, fall = (above / (1 + pairs)).to(scores.dtype), (below / (1 + pairs)).to(scores.dtype)
    return pairs.log1p().to(scores.dtype), up * rise[group] - down * fall[group]


def _groups(labels: Tensor) -> tuple[Tensor, int]:
    """(B,) number of the group of each row, by ascending label, and how many groups there may be."""
    low, high = torch.aminmax(labels)
    width = high.item() - low.item()
    if width < max(64, labels.numel()):
        codes = (labels - low).long()
        if not labels.is_floating_point() or bool((codes + low == labels).all()):
            return codes, int(width) + 1
    values, codes = torch.unique(labels, return_inverse=True)
    return codes, values.numel()


def log_kernel(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss () and gradient (B,) by one sort and two cumulative log-sum-exps, for scores of any size.

    Both results are differentiable, no value is read back from the device, and no float64 is used.

    >>> [t.tolist() for t in log_kernel(torch.zeros(2), torch.tensor([0, 1]))]
    [0.693147..., [0.5, -0.5]]
    """
    ordered, order = torch.sort(labels)
    s = scores[order]
    first = torch.searchsorted(ordered, ordered)
    after = torch.searchsorted(ordered, ordered, right=True)
    empty = s.new_full((1,), -torch.inf)
    below = torch.cat([empty, torch.logcumsumexp(s, 0)])[first]
    above = torch.cat([torch.logcumsumexp(-s.flip(0), 0).flip(0), empty])[after]
    loss = torch.logsumexp(torch.cat([s + above, s.new_zeros(1)]), 0)
    gradient = torch.exp(s + above - loss) - torch.exp(below - s - loss)
    return loss, torch.zeros_like(s).scatter(0, order, gradient)


KERNELS: dict[str, Kernel] = {"sum": sum_kernel, "log": log_kernel}


def choose(scores: Tensor) -> str:
    """Name of the cheapest kernel that is exact for these scores (B,), B > 0.

    On an accelerator always "log": the other reads values back from the device, needs float64 and
    adds in an order that is not fixed.

    >>> choose(torch.tensor([-20.0, 20.0])), choose(torch.tensor([0.0, 1e6]))
    ('sum', 'log')
    """
    if scores.device.type != "cpu":
        return "log"
    low, high = torch.aminmax(scores.detach())
    limit = _MODERATE[scores.dtype]
    return "sum" if -limit <= low.item() and high.item() <= limit else "log"
