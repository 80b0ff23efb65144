"""Entropy of attention rows without an n x n matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.attention.function import ROWS, Call, repeat_heads, row_logits
from kexue_pl.attention.positions.base import Positions
from kexue_pl.attention.visible import visible_mask

_FUSED = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


@torch.no_grad()
def attention_entropy(call: Call, *, fused: bool = True) -> Tensor:
    """Entropy in nats of every attention row of a call, (B, H, Q) in float32.

    With ``s`` the scaled logits and ``p = softmax(s)``, ``H_i = logsumexp_j s_ij - sum_j p_ij
    s_ij``, and the last sum is ``c q_i . (sum_j p_ij k_j)``: attention with the keys as values. One
    fused call that returns its logsumexp so gives exact entropies in O(n d) memory. That kernel is
    private to PyTorch; without it (and with biases or rectified positions) 128 rows of logits exist
    at a time. kexue.fm/archives/8823 is about keeping this number as n grows.

    Args:
        call: what the attention function was called with, as given to an observer.
        fused: use the fused kernel where it applies.
    """
    query = call.query.float() * call.multiplier().float()
    key = repeat_heads(call.key, query.shape[1]).float()
    plain = call.bias is None and type(call.positions).logits is Positions.logits
    plain = plain and (call.mask is None or call.mask.dtype == torch.bool)
    if fused and plain and _FUSED is not None and query.device.type == "cpu":
        return _streaming(call, query, key)
    parts = []
    for start in range(0, query.shape[2], ROWS):
        rows = slice(start, min(start + ROWS, query.shape[2]))
        logs = row_logits(call, query, key, rows, call.scale).log_softmax(-1)
        parts.append(-(logs.exp() * logs).sum(-1))
    return torch.cat(parts, 2)


def _streaming(call: Call, query: Tensor, key: Tensor) -> Tensor:
    assert _FUSED is not None
    bias = None
    if call.mask is not None:
        shape = (query.shape[0], call.mask.shape[1], query.shape[2], key.shape[2])
        bias = torch.zeros(call.mask.shape, dtype=query.dtype, device=query.device)
        bias = bias.masked_fill_(~call.mask, torch.finfo(query.dtype).min).expand(shape)
    mean_key, lse = _FUSED(query, key, key, 0.0, call.causal, attn_mask=bias, scale=call.scale)
    entropy: Tensor = lse - call.scale * (query * mean_key).sum(-1)
    return entropy.clamp_min(0.0)


def valid_rows(call: Call) -> Tensor:
    """Query rows that are not padding, bool, broadcasting to (B, H, Q).

    A padded token is hidden from every row, so also from itself, while a real one sees itself under
    padding, causal, window and UniLM masks alike: the diagonal of the mask tells them apart.
    """
    queries, keys = call.query.shape[2], call.key.shape[2]
    if call.mask is None:
        return torch.ones(1, 1, queries, dtype=torch.bool, device=call.query.device)
    seen = visible_mask(call.mask)
    if seen.shape[2] == 1:
        return seen[:, :, 0, call.offset : call.offset + queries]
    return seen.diagonal(call.offset, 2, 3) if keys >= queries else seen.any(-1)


def mean_entropy(call: Call) -> Tensor:
    """Mean entropy of the valid rows of each head, (H,), nats."""
    rows = attention_entropy(call)
    valid = valid_rows(call).expand(rows.shape)
    return (rows * valid).sum((0, 2)) / valid.sum((0, 2)).clamp_min(1)
