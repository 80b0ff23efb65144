"""Adam for the few numbers that a rule learns itself."""

from __future__ import annotations

import torch
from torch import Tensor


def adam_step(
    state: dict[str, Tensor], key: str, gradient: Tensor, tasks: Tensor, lr: float
) -> None:
    r"""One Adam step (beta 0.9 and 0.999) on the entries ``tasks`` of ``state[key]``, in place.

    A rule's own optimizer, so that it runs in any loop, is identical on all ranks and is saved with
    the rule. Entries of absent tasks are left alone. Kingma and Ba 2015 (arXiv 1412.6980).

    Args:
        state: holds the (T,) values under ``key``; moments and counts are kept beside them.
        gradient: (n,) derivative for the live tasks.
        tasks: (n,) indices of the live tasks.
        lr: step size.

    >>> import torch
    >>> state = {"s": torch.zeros(2, dtype=torch.float64)}
    >>> adam_step(state, "s", torch.tensor([4.0]).double(), torch.tensor([1]), lr=0.1)
    >>> state["s"].round(decimals=4).tolist()
    [0.0, -0.1]
    """
    for name in ("first", "second", "seen"):
        state.setdefault(f"{key}_{name}", torch.zeros_like(state[key]))
    first, second, seen = (state[f"{key}_{name}"] for name in ("first", "second", "seen"))
    seen[tasks] += 1
    first[tasks] = 0.9 * first[tasks] + 0.1 * gradient
    second[tasks] = 0.999 * second[tasks] + 0.001 * gradient.square()
    mean = first[tasks] / (1 - torch.pow(0.9, seen[tasks]))
    spread = (second[tasks] / (1 - torch.pow(0.999, seen[tasks]))).sqrt()
    state[key][tasks] -= lr * mean / (spread + 1e-8)
