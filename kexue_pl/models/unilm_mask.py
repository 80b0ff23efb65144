"""The mask that makes one encoder both reader and writer."""

from __future__ import annotations

import torch
from torch import Tensor


def additive(sees: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """0 where attention is allowed and the lowest finite number elsewhere, same shape as ``sees``.

    A boolean 4-D mask leaks the future in BERT under ``attn_implementation="eager"``, where it is
    added to the scores as 0 and 1; an additive one is exact under every implementation.

    Example:
        >>> additive(torch.tensor([True, False]))[0].item()
        0.0
    """
    zero = torch.zeros((), dtype=dtype, device=sees.device)
    return torch.where(sees, zero, torch.finfo(dtype).min)


def unilm_sees(segment: Tensor, mask: Tensor) -> Tensor:
    """Which position may look at which, (B, L, L) bool, [b, i, j]: i looks at j.

    UniLM (arXiv 1905.03197, kexue.fm/archives/6933): with c the cumulative sum of the segment, i
    sees j iff c_j <= c_i. The question (segment 0) sees itself both ways, the answer (segment 1)
    what precedes.

    Args:
        segment: (B, L), 0 for the question and 1 for the answer.
        mask: (B, L), 1 on tokens and 0 on padding.

    Example:
        >>> unilm_sees(torch.tensor([[0, 0, 1, 1]]), torch.ones(1, 4)).int().tolist()
        [[[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]]
    """
    level = segment.cumsum(1)
    return (level[:, None, :] <= level[:, :, None]) & mask[:, None, :].bool()
