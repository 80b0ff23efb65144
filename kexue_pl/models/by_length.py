"""Encode the rows of a batch in groups of like length: less padding, the same states."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kexue_pl.models.encoder import Encoder

__all__ = ["encode_by_length"]

GROUP = 32
"""Rows that go through the encoder together: few enough to be alike, many enough to fill a core."""


def encode_by_length(
    encoder: Encoder,
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor | None = None,
    *,
    group: int = GROUP,
) -> Tensor:
    """Hidden states of a batch, computed in groups of rows sorted by length.

    The batch stays what it is, only most of its padding is not computed. Meant for the CPU, where
    padding costs time and the lengths are known without waiting for a device.

    Args:
        encoder: any encoder; rows must not depend on each other.
        input_ids: (B, L), padded on the right.
        attention_mask: (B, L).
        token_type_ids: (B, L) or None.
        group: rows that are encoded together.

    Returns:
        (B, L, H); values on padding mean nothing, as ever.

    >>> from kexue_pl.models.static import StaticEncoder
    >>> encoder, ids = StaticEncoder(9, 2), torch.tensor([[3, 4, 5], [6, 0, 0]])
    >>> encode_by_length(encoder, ids, (ids > 0).long(), group=1)[1, 1:].tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    rows, most = input_ids.shape
    lengths = attention_mask.sum(1)
    if rows <= group or bool((lengths == most).all()):
        return encoder(input_ids, attention_mask, token_type_ids)  # type: ignore[no-any-return]
    order = lengths.argsort(stable=True)
    parts = []
    for part in torch.split(order, group):
        width = int(lengths[part[-1]])
        types = None if token_type_ids is None else token_type_ids[part, :width]
        states = encoder(input_ids[part, :width], attention_mask[part, :width], types)
        parts.append(F.pad(states, (0, 0, 0, most - width)))
    back = torch.empty_like(order).scatter_(0, order, torch.arange(rows))
    return torch.cat(parts)[back]
