"""Rotary positions for a BERT body whose tokens stand where they are told to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kexue_pl.attention import zero_positions
from kexue_pl.attention.positions import rotary_tables, turn

__all__ = ["Rotary"]


class Rotary:
    """Turns the queries and keys of every layer by the positions of their tokens.

    The positions are those of RoFormer (kexue.fm/archives/8265, arXiv 2104.09864), put behind the
    projections of a BERT whose own table becomes zeros. So keys are turned before they are cached
    and may be cached in any order, and whatever attention function the body uses sees them turned.

    Args:
        body: a BertModel.
        base: wavelength of the slowest pair over 2 pi, in tokens.
    """

    def __init__(self, body: Any, base: float = 10_000.0) -> None:
        zero_positions(body)
        self.base = base
        self.heads = int(body.config.num_attention_heads)
        self.size = int(body.config.hidden_size) // self.heads
        self.tables: tuple[Tensor, Tensor] | None = None
        for layer in body.encoder.layer:
            layer.attention.self.query.register_forward_hook(self._turn)
            layer.attention.self.key.register_forward_hook(self._turn)

    def place(self, positions: Tensor) -> None:
        """Put the tokens of the next pass at positions (B, T) or (T,)."""
        cos, sin = rotary_tables(positions.flatten(), self.size, self.base, interleaved=True)
        shape = (*positions.shape, 1, self.size)
        self.tables = cos.view(shape), sin.view(shape)

    def _turn(self, projection: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if self.tables is None:
            raise RuntimeError("Rotary: call place(positions) before the model")
        parts = output.view(*output.shape[:-1], self.heads, self.size)
        return torch.flatten(turn(parts, *self.tables, interleaved=True), -2)
