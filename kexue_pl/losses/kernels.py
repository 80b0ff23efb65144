"""Ways to the pairwise ranking loss in O(B log B), each with its gradient in closed form.

With labels in groups g of ascending value, a_g = LSE of s over g, b_g = LSE of -s over g:

    pre_g = LSE_{h<g} a_h      suf_g = LSE_{h>g} b_h      (an empty LSE is -inf)
    L = LSE(0, {a_g + suf_g}_g)
    dL/ds_k = exp(s_k + suf_{g(k)} - L) - exp(pre_{g(k)} - s_k - L)

so that the forward pass knows the gradient already. `sort_kernel` is made of differentiable steps;
`group_kernel` and `two_label_kernel` are cheaper; `dense_kernel` is the definition, which takes the
fewest steps for a few rows. All take s (B,) float32 or float64 and y (B,), B
> 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "KERNELS",
    "Kernel",
    "choose",
    "dense_kernel",
    "group_kernel",
    "sort_kernel",
    "two_label_kernel",
]

Kernel = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_DENSE_TO = 64  # rows up to which the B x B matrix is the cheapest
_GROUP_FROM = 1536  # rows from which group sums are cheaper than two cumulative log-sum-exps


def dense_kernel(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss () and gradient (B,) from the B x B matrix of s_j - s_i.

    >>> [t.tolist() for t in dense_kernel(torch.zeros(2), torch.tensor([0, 1]))]
    [0.693147..., [0.5, -0.5]]
    """
    gaps = scores - scores[:, None]
    gaps = gaps.masked_fill(labels[:, None] <= labels, -torch.inf)
    loss = torch.logsumexp(torch.cat([gaps.flatten(), gaps.new_zeros(1)]), 0)
    shares = torch.exp(gaps - loss)
    return loss, shares.sum(0) - shares.sum(1)


def sort_kernel(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss () and gradient (B,) by one sort and two cumulative log-sum-exps.

    Both results are differentiable, no value is read back from the device, and no float64 is used.

    >>> [t.tolist() for t in sort_kernel(torch.zeros(2), torch.tensor([0, 1]))]
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


def group_kernel(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss () and gradient (B,) by group sums, which are taken in float64.

    In float32 the group sums themselves would lose accuracy from about 1e5 pairs on.

    >>> [t.tolist() for t in group_kernel(torch.zeros(2), torch.tensor([0, 1]))]
    [0.693147..., [0.5, -0.5]]
    """
    values, group = torch.unique(labels, return_inverse=True)
    if values.numel() < 2:
        return scores.new_zeros(()), torch.zeros_like(scores)

    def by_group(v: Tensor) -> Tensor:
        top = v.new_full((values.numel(),), -torch.inf).scatter_reduce(0, group, v, "amax")
        total = torch.zeros(values.numel(), dtype=torch.float64, device=v.device)
        total.index_add_(0, group, torch.exp(v - top[group]).double())
        return top.double() + total.log()

    a, b = by_group(scores), by_group(-scores)
    empty = a.new_full((1,), -torch.inf)
    pre = torch.cat([empty, torch.logcumsumexp(a[:-1], 0)])
    suf = torch.cat([torch.logcumsumexp(b[1:].flip(0), 0).flip(0), empty])
    loss = torch.logsumexp(torch.cat([a + suf, a.new_zeros(1)]), 0)
    up = torch.exp(scores + (suf - loss)[group].to(scores.dtype))
    down = torch.exp((pre - loss)[group].to(scores.dtype) - scores)
    return loss.to(scores.dtype), up - down


def two_label_kernel(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss () and gradient (B,) where labels take at most two values; two log-sum-exps, no sort.

    >>> [t.tolist() for t in two_label_kernel(torch.zeros(2), torch.tensor([0, 1]))]
    [0.693147..., [0.5, -0.5]]
    """
    positive = labels == labels.max()
    a = torch.logsumexp(scores.masked_fill(positive, -torch.inf), 0)
    p = torch.logsumexp((-scores).masked_fill(~positive, -torch.inf), 0)
    # logaddexp, since softplus turns linear above 20 and is then off by 2e-11.
    loss = torch.logaddexp(a + p, torch.zeros_like(a))
    up, down = torch.exp(scores + p - loss), torch.exp(a - scores - loss)
    return loss, torch.where(positive, -down, up)


KERNELS: dict[str, Kernel] = {
    "dense": dense_kernel,
    "sort": sort_kernel,
    "group": group_kernel,
    "two_label": two_label_kernel,
}


def choose(labels: Tensor) -> str:
    """Name of the cheapest kernel for these labels (B,).

    On an accelerator always "sort": the others read label values back from the device, need float64
    or sum in an order that is not fixed.

    >>> choose(torch.tensor([0, 1, 2])), choose(torch.arange(100)), choose(torch.arange(100) % 2)
    ('dense', 'sort', 'two_label')
    """
    if labels.device.type != "cpu":
        return "sort"
    if labels.numel() <= _DENSE_TO:
        return "dense"
    low, high = torch.aminmax(labels)
    if bool(((labels == low) | (labels == high)).all()):
        return "two_label"
    return "group" if labels.numel() >= _GROUP_FROM else "sort"
