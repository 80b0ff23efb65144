"""Two ways to the pairwise ranking loss in O(B log B), each with its gradient in closed form.

With labels in groups g of ascending value, A_g the sum of exp(s) over g, B_g that of exp(-s):

    L = log(1 + sum over g of A_g sum over h > g of B_h)
    dL/ds_k = [e^{s_k} sum over h > g(k) of B_h - e^{-s_k} sum over h < g(k) of A_h] / e^L

so that the forward pass knows the gradient already. `sum_kernel` takes it literally, which needs scores
of moderate size; `log_kernel` works with logarithms and is made of differentiable steps. Both take
s (B,) float32 or float64 and y (B,), B > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["KERNELS", "Kernel", "choose", "log_kernel", "sum_kernel"]

Kernel = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# Scores up to which a sum of e^(s_j - s_i) over pairs is far from the ends of the range of float64.
_MODERATE = 300.0


def sum_kernel(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss () and gradient (B,) by sums of exponentials in float64, on the host.

    One exponential a row; no sort where labels are whole numbers of a small range. Scores beyond 300
    are not for this kernel.

    >>> [t.tolist() for t in sum_kernel(torch.zeros(2), torch.tensor([0, 1]))]
    [0.693147..., [0.5, -0.5]]
    """
    # NumPy, since a step of it costs a third of a step of torch, and small batches are all steps.
    up = np.exp(scores.detach().numpy(), dtype=np.float64)
    down = 1 / up
    group, groups = _groups(labels.detach().numpy())
    a, b = np.bincount(group, up, groups), np.bincount(group, down, groups)
    below, above = np.zeros(groups), np.zeros(groups)
    np.cumsum(a[:-1], out=below[1:])
    np.cumsum(b[:0:-1], out=above[-2::-1])
    pairs = float(a @ above)
    gradient = up * (above / (1 + pairs))[group]
    gradient -= down * (below / (1 + pairs))[group]
    loss = torch.tensor(math.log1p(pairs), dtype=scores.dtype)
    return loss, torch.from_numpy(gradient).to(scores.dtype)


def _groups(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], int]:
    """(B,) number of the group of each row, by ascending label, and how many groups there may be."""
    low, high = labels.min(), labels.max()
    width = high.item() - low.item()
    if width < max(64, len(labels)):
        codes = (labels - low).astype(np.int64)
        if labels.dtype.kind != "f" or bool((codes + low == labels).all()):
            return codes, int(width) + 1
    values, codes = np.unique(labels, return_inverse=True)
    return codes, len(values)


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

    On an accelerator always "log", since the other works on the host.

    >>> choose(torch.tensor([-20.0, 20.0])), choose(torch.tensor([0.0, 1e6]))
    ('sum', 'log')
    """
    if scores.device.type != "cpu":
        return "log"
    low, high = torch.aminmax(scores.detach())
    # Written so that NaN goes to "log", which passes it on.
    return "sum" if max(-low.item(), high.item()) <= _MODERATE else "log"
