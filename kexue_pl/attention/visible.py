"""Counting the keys that each query row may attend to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, MutableMapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary


def visible_mask(mask: Tensor) -> Tensor:
    """A mask as booleans, True = attend; additive masks hide what is below half the smallest float.

    >>> visible_mask(torch.tensor([0.0, torch.finfo(torch.float32).min, -5.0])).tolist()
    [True, False, True]
    """
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def count_visible(
    mask: Tensor | None,
    query_length: int = 1,
    key_length: int = 1,
    *,
    causal: bool = False,
    device: torch.device | None = None,
) -> Tensor:
    """Visible keys n of each query row.

    Args:
        mask: (B or 1, H or 1, Q or 1, K), bool with True = attend or additive float; None = no
            mask.
        query_length: Q; this and the rest are read only where there is no mask.
        key_length: K.
        causal: rows see only earlier keys; counted when there is no mask and Q > 1, with row i at
            key i, as PyTorch and transformers align the rows they hand on without a mask.
        device: where the answer is made.

    Returns:
        int64, (B or 1, H or 1, Q or 1, 1).

    >>> count_visible(None, 3, 3, causal=True, device=torch.device("cpu")).flatten().tolist()
    [1, 2, 3]
    """
    if mask is not None:
        return visible_mask(mask).sum(-1, keepdim=True)
    if causal and query_length > 1:
        rows = torch.arange(1, query_length + 1, device=device).clamp_max(key_length)
        return rows.view(1, 1, query_length, 1)
    return torch.tensor(key_length, device=device).view(1, 1, 1, 1)


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a boolean mask is True and minus infinity elsewhere; expanded dimensions stay so.

    >>> additive_mask(torch.tensor([True, False]), torch.float32).tolist()
    [0.0, -inf]
    """
    dense = mask
    for axis, stride in enumerate(mask.stride()):
        if stride == 0 and mask.shape[axis] > 1:
            dense = dense.narrow(axis, 0, 1)
    return torch.zeros_like(dense, dtype=dtype).masked_fill(~dense, -torch.inf).expand(mask.shape)


class PerMask:
    """Keeps what ``compute`` makes of a mask, so that it is made once for all layers.

    The answer is kept as long as the mask itself lives and is made again after a change in place,
    for other ``settings``, and on the way in or out of inference mode.

    >>> once = PerMask(lambda mask: mask.sum(-1))
    >>> mask = torch.tensor([True, True])
    >>> once(mask) is once(mask)
    True
    """

    def __init__(self, compute: Callable[..., Tensor]) -> None:
        self.compute = compute
        self._known: MutableMapping[Tensor, tuple[tuple[Any, ...], Tensor]] = WeakIdKeyDictionary()

    def __call__(self, mask: Tensor, *settings: Hashable) -> Tensor:
        """``compute(mask, *settings)``."""
        if torch.compiler.is_compiling():
            return self.compute(mask, *settings)
        version = -1 if mask.is_inference() else mask._version
        state = (version, torch.is_inference_mode_enabled(), *settings)
        known = self._known.get(mask)
        if known is None or known[0] != state:
            self._known[mask] = known = (state, self.compute(mask, *settings))
        return known[1]
