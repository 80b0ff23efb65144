"""A cross-encoder over static vectors: soft alignment of the tokens, comparison, pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_pl.models.interaction import maxsim
from kexue_pl.models.pooling import pool

__all__ = ["Alignment"]


class Alignment(nn.Module):
    r"""Logits of a pair from its token vectors; symmetric in the two texts.

        p_i = sum_j softmax_j(sharp cos(u_i, v_j)) v_j          what v offers for token i of u
        c_i = GELU(W [abs(u_i - p_i); u_i * p_i])               comparison
        x = [mean c; max c],  y the same from v to u
        z = MLP([x + y; abs(x - y)]) + skip MaxSim(u, v) + bias

    Source: decomposable attention, Parikh et al., arXiv 1606.01933, with MaxSim as a skip path.

    Args:
        hidden_size: width of the token vectors.
        outputs: C, logits a pair.
        width: of the hidden layers.
        dropout: share dropped, 0 to 1.
    """

    def __init__(
        self, hidden_size: int, outputs: int = 1, *, width: int = 128, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.sharp = nn.Parameter(torch.tensor([10.0]))
        self.skip = nn.Parameter(torch.linspace(0.0, 5.0, outputs) if outputs > 1 else _ones(5.0))
        self.bias = nn.Parameter(torch.zeros(outputs) if outputs > 1 else _ones(-2.5))
        self.compare = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(2 * hidden_size, width), nn.GELU(), nn.Dropout(dropout)
        )
        self.out = nn.Sequential(nn.Linear(4 * width, width), nn.GELU(), nn.Linear(width, outputs))

    def _side(self, a: Tensor, b: Tensor, b_weights: Tensor, table: Tensor, w: Tensor) -> Tensor:
        share = table.masked_fill((b_weights <= 0)[:, None, :], -torch.inf).softmax(2)
        offered = share @ b
        compared = self.compare(torch.cat([(a - offered).abs(), a * offered], -1))
        return torch.cat([pool(compared, w, "mean"), pool(compared, w, "max")], -1)

    def forward(
        self, left: Tensor, left_weights: Tensor, right: Tensor, right_weights: Tensor
    ) -> Tensor:
        """(B, C) logits of token vectors (B, L, H), (B, R, H) and weights, 0 on padding."""
        root = left.shape[-1] ** 0.5
        u, v = F.normalize(left, dim=-1), F.normalize(right, dim=-1)
        table = self.sharp * u @ v.transpose(1, 2)
        x = self._side(u * root, v * root, right_weights, table, left_weights)
        y = self._side(v * root, u * root, left_weights, table.transpose(1, 2), right_weights)
        logits: Tensor = self.out(torch.cat([x + y, (x - y).abs()], -1))
        similar = maxsim(left, left_weights, right, right_weights)
        return logits + self.skip * similar[:, None] + self.bias


def _ones(value: float) -> Tensor:
    return torch.full((1,), value)
