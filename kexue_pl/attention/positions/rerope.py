"""ReRoPE: distances beyond a window all count as the window."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.attention.positions.rope import RoPE, turn


class ReRoPE(RoPE):
    """Rectified rotary positions, kexue.fm/archives/9708, in both directions.

    The logit of query i and key j is RoPE's at distance ``clip(i - j, -window, window)``, so no
    distance is ever larger than those of training. Keys beyond the window are met by a query turned
    by plus or minus window and left unturned themselves. There is no fused kernel: logits are made
    for 128 query rows at a time, each product over the columns that need it.

    Layers in training mode use plain RoPE, as in the article; the window belongs to inference.

    Args:
        window: largest distance told apart, in tokens, at least 1; below the training length.
        base: as in :class:`RoPE`.
        interleaved: as in :class:`RoPE`.

    Raises:
        ValueError: for a window below 1.
    """

    def __init__(self, window: int = 48, base: float = 10_000.0, interleaved: bool = True) -> None:
        super().__init__(base=base, interleaved=interleaved)
        if window < 1:
            raise ValueError(f"ReRoPE: window={window} must be at least 1; set model.window")
        self.window = window
        self._plain = RoPE(base=base, interleaved=interleaved)

    def in_training(self) -> RoPE:
        """Plain RoPE: inside the training length the method changes nothing that must be learned."""
        return self._plain

    def rotate(self, query: Tensor, key: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Nothing yet: distances are worked in by :meth:`logits`."""
        return query, key

    def logits(self, query: Tensor, key: Tensor, rows: slice, offset: int) -> Tensor:
        """Unscaled logits (B, H, rows, K) of a run of query rows."""
        window, keys = self.window, key.shape[2]
        first, last = offset + rows.start, offset + rows.stop - 1
        begin = min(max(0, first - window), keys)  # keys before it lie beyond every row's window
        end = max(begin, min(keys, last + window + 1))  # and so do keys from here on, ahead
        part = query[:, :, rows]
        cos, sin = self.tables(max(keys, last + 1, window + 1), key.shape[-1], key.device)
        here, there = slice(first, last + 1), slice(begin, end)
        near = self._turn(part, cos[here], sin[here]) @ self._turn(
            key[:, :, there], cos[there], sin[there]
        ).transpose(-1, -2)
        behind = self._turn(part, cos[window], sin[window]) @ key[:, :, :end].transpose(-1, -2)
        ahead = self._turn(part, cos[window], -sin[window]) @ key[:, :, begin:].transpose(-1, -2)
        places = torch.arange(begin, end, device=key.device)
        gap = torch.arange(first, last + 1, device=key.device)[:, None] - places
        near = torch.where(gap > window, behind[..., begin:], near)
        near = torch.where(gap < -window, ahead[..., : end - begin], near)
        return torch.cat([behind[..., :begin], near, ahead[..., end - begin :]], -1)

    def _turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return turn(x, cos, sin, interleaved=self.interleaved)
