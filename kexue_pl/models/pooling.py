"""From one vector a token to one vector a text; padding never counts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["POOLINGS", "check_pooling", "pool"]


def _cls(states: Tensor, weights: Tensor) -> Tensor:
    return states[:, 0]


def _mean(states: Tensor, weights: Tensor) -> Tensor:
    total = torch.einsum("bl,blh->bh", weights, states)
    return total / weights.sum(1, keepdim=True).clamp_min(1e-9)


def _max(states: Tensor, weights: Tensor) -> Tensor:
    hidden = states.masked_fill((weights <= 0)[..., None], -torch.inf)
    return hidden.amax(1)


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _cls,
    "mean": _mean,
    "max": _max,
    # The encoder returns the mean of its first and last layer; what is left is the mean of tokens.
    "first_last_mean": _mean,
}
"""Name -> function of (states, weights)."""


def check_pooling(name: str) -> str:
    """``name`` if there is such a pooling.

    Raises:
        ValueError: there is none; the message lists them.
    """
    if name not in POOLINGS:
        raise ValueError(f"model.pooling={name!r}: expected one of {', '.join(POOLINGS)}")
    return name


def pool(states: Tensor, weights: Tensor, how: str) -> Tensor:
    """One vector a text.

        cls: h_1    mean: sum_t w_t h_t / sum_t w_t    max: max over t with w_t > 0 of h_t

    Args:
        states: h (B, L, H).
        weights: w (B, L), 0 on padding; the attention mask, or learned token weights.
        how: a key of :data:`POOLINGS`.

    Returns:
        (B, H) in the dtype of ``states``.

    >>> states = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> mask = torch.tensor([[1.0, 1.0, 0.0]])
    >>> [float(pool(states, mask, how)) for how in ("cls", "mean", "max")]
    [1.0, 2.0, 3.0]
    """
    return POOLINGS[check_pooling(how)](states, weights.to(states.dtype))
