"""Counting the keys that each query row may attend to."""

from __future__ import annotations

from collections.abc import MutableMapping

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
    mask: Tensor | None, query_length: int, key_length: int, *, causal: bool, device: torch.device
) -> Tensor:
    """Visible keys n of each query row.

    Args:
        mask: (B or 1, H or 1, Q or 1, K), bool with True = attend or additive float; None = no
            mask.
        query_length: Q.
        key_length: K.
        causal: rows see only earlier keys; counted when there is no mask and Q > 1, with row i at
            key i, as PyTorch and transformers align the rows they hand on without a mask.
        device: where the answer is made when there is no mask.

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


class VisibleKeys:
    """:func:`count_visible` that counts each mask once, however many layers share it.

    The answer is kept as long as the mask itself lives and is counted again after a change in
    place.
    """

    def __init__(self) -> None:
        self._counts: MutableMapping[Tensor, tuple[int, Tensor]] = WeakIdKeyDictionary()

    def __call__(
        self,
        mask: Tensor | None,
        query_length: int,
        key_length: int,
        *,
        causal: bool,
        device: torch.device,
    ) -> Tensor:
        """n of each row; arguments and answer as in :func:`count_visible`."""
        if mask is None or torch.compiler.is_compiling():
            return count_visible(mask, query_length, key_length, causal=causal, device=device)
        version = -1 if mask.is_inference() else mask._version
        known = self._counts.get(mask)
        if known is None or known[0] != version:
            counts = count_visible(mask, query_length, key_length, causal=causal, device=device)
            self._counts[mask] = known = (version, counts)
        return known[1]
