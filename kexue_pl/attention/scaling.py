"""What every attention scaling is: a function of a row's visible keys n and the head size d."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn


class Scaling(nn.Module):
    r"""Base of all scalings: how the logits of a query row grow with the keys it sees.

    Attention with a scaling is ``softmax(factor(n, d) q k) v`` where n is the number of keys that
    the query row may attend to (padding, causal, UniLM and window masks included) and d the head
    size. Subclasses give :meth:`ratio`, the multiplier beside the model's own constant, which is
    ``1/sqrt(d)`` in most models and 1 in T5; additive biases are never scaled.

    Articles: kexue.fm/archives/8823 and 9034 (why n belongs in the scale).
    """

    per_layer: ClassVar[bool] = False
    """Each attention layer needs a copy of its own (learned or calibrated values)."""

    absolute: ClassVar[bool] = False
    """The factor replaces the model's own constant instead of multiplying it."""

    inference_only: ClassVar[bool] = False
    """Layers in training mode use the plain scale."""

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """Multiplier beside ``1/sqrt(d)``.

        Args:
            n: visible keys of each query row, any shape that broadcasts to (B, H, Q, 1); integers,
                or floats to set the precision of the answer.
            d: size of a head.

        Returns:
            A tensor that broadcasts to (B, H, Q, 1), float32 for integer n.
        """
        raise NotImplementedError

    def factor(self, n: Tensor, d: int) -> Tensor:
        """Full multiplier of ``q . k``: ``ratio(n, d) / sqrt(d)``, shapes as in :meth:`ratio`."""
        return self.ratio(n, d) / math.sqrt(d)

    def transform(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, H, Q, d) and keys (B, Hk, K, d) to multiply; identity by default."""
        return query, key

    def bind(self, heads: int) -> None:
        """Give a layer's own copy one value a head; nothing to do for scalings without values."""

    @property
    def learned(self) -> bool:
        """Whether the scaling holds parameters to train."""
        if self._modules:
            return next(self.parameters(), None) is not None
        return any(value is not None for value in self._parameters.values())  # asked every call


def as_float(n: Tensor) -> Tensor:
    """Counts as floats: float32 for integers, float tensors as they are.

    >>> as_float(torch.tensor([2, 3])).dtype
    torch.float32
    """
    return n if n.is_floating_point() else n.to(torch.float32)


def log_keys(n: Tensor, floor: float = 1.0) -> Tensor:
    """Natural logarithm of ``max(n, floor)``; never below 0, so empty rows stay finite.

    >>> log_keys(torch.tensor([0, 1, 8])).tolist()
    [0.0, 0.0, 2.079441547393799]
    """
    return torch.log(as_float(n).clamp_min(max(1.0, floor)))


def per_head(value: Tensor) -> Tensor:
    """View of one value a head (H,) as (1, H, 1, 1), or of a single value (1,) as (1, 1, 1, 1)."""
    return value.view(1, -1, 1, 1)


def check_above(owner: str, name: str, value: float, bound: float) -> float:
    """Return ``value`` if it is above ``bound``.

    Raises:
        ValueError: naming the parameter, its value and the override that mends it.
    """
    if not value > bound:
        raise ValueError(
            f"{owner}: {name}={value} must be greater than {bound:g}; set attention.{name}"
        )
    return value
