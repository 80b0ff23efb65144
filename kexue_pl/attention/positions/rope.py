"""Rotary position embedding: pairs of coordinates turned by an angle proportional to position."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.attention.positions.base import Positions


def rotary_tables(
    positions: Tensor, d: int, base: float, *, interleaved: bool
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (n, d) in float32 of positions (n,), frequencies ``base**(-2i/d)``."""
    steps = torch.arange(0, d, 2, device=positions.device, dtype=torch.float32)
    angles = positions.to(torch.float32)[:, None] * base ** (-steps / d)
    both = angles.repeat_interleave(2, -1) if interleaved else torch.cat([angles, angles], -1)
    return both.cos(), both.sin()


def turn(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool) -> Tensor:
    """Rotate the pairs of x (..., n, d): (2i, 2i+1) if interleaved, else (i, i + d/2)."""
    if interleaved:
        quarter = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
    else:
        low, high = x.chunk(2, -1)
        quarter = torch.cat([-high, low], -1)
    return x * cos.to(x.dtype) + quarter * sin.to(x.dtype)


class RoPE(Positions):
    """Rotary positions, kexue.fm/archives/8265 and arXiv 2104.09864.

    Args:
        base: wavelength of the slowest pair over 2 pi, in tokens; 10,000 in RoFormer.
        interleaved: pairs (2i, 2i+1) as in RoFormer; False: (i, i + d/2) as in Llama.

    Raises:
        ValueError: for a base of at most 1.

    >>> q = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    >>> turned, _ = RoPE().rotate(q, q, 0)
    >>> [round(x, 4) for x in turned[0, 0, 1].tolist()]  # cos 1, sin 1
    [0.5403, 0.8415]
    """

    def __init__(self, base: float = 10_000.0, interleaved: bool = True) -> None:
        if not base > 1:
            raise ValueError(f"RoPE: base={base} must be greater than 1; set model.rope_base")
        self.base = base
        self.interleaved = interleaved
        self._tables: dict[tuple[int, int, float, torch.device], tuple[Tensor, Tensor]] = {}

    def base_at(self, length: int, d: int) -> float:
        """The base used for a sequence of ``length`` keys."""
        return self.base

    def tables(self, length: int, d: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines (length, d) of positions 0 ... length - 1, kept for the next call."""
        key = (length, d, self.base_at(length, d), device)
        if key not in self._tables:
            if len(self._tables) >= 16:
                self._tables.clear()
            with torch.inference_mode(False):
                places = torch.arange(length, device=device)
                made = rotary_tables(places, d, key[2], interleaved=self.interleaved)
            self._tables[key] = made
        return self._tables[key]

    def rotate(self, query: Tensor, key: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Queries at offset + i and keys at j turned by their positions."""
        queries, keys = query.shape[2], key.shape[2]
        cos, sin = self.tables(max(keys, offset + queries), key.shape[-1], key.device)
        here = slice(offset, offset + queries)
        return (
            turn(query, cos[here], sin[here], interleaved=self.interleaved),
            turn(key, cos[:keys], sin[:keys], interleaved=self.interleaved),
        )
