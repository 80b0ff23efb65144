"""How the two texts of a pair meet: never, at the last step, or in every layer."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["INTERACTIONS", "check_interaction", "match_types", "maxsim"]

INTERACTIONS = ("bi", "late", "cross")
"""``bi``: one vector a text, cosine; ``late``: tokens meet once; ``cross``: both texts at once."""


def check_interaction(name: str) -> str:
    """``name`` if it is one of :data:`INTERACTIONS`.

    Raises:
        ValueError: it is not.
    """
    if name not in INTERACTIONS:
        raise ValueError(f"model.interaction={name!r}: expected one of {', '.join(INTERACTIONS)}")
    return name


def maxsim(left: Tensor, left_weights: Tensor, right: Tensor, right_weights: Tensor) -> Tensor:
    r"""Late interaction: each token finds its best partner in the other text, both ways.

        s = 1/2 [ sum_i a_i max_j cos(u_i, v_j) / sum_i a_i  +  the same from v to u ]

    Source: ColBERT, Khattab and Zaharia, arXiv 2004.12832; here symmetric and weighted.

    Args:
        left: u (B, L, H) token vectors.
        left_weights: a (B, L), 0 on padding.
        right: v (B, R, H).
        right_weights: (B, R), 0 on padding.

    Returns:
        (B,) within -1..1.

    >>> import torch
    >>> u, v = torch.eye(2)[None], torch.eye(2)[None, :1]
    >>> ones = torch.ones(1, 2)
    >>> float(maxsim(u, ones, v, ones[:, :1]))  # (1/2 + 1) / 2
    0.75
    """
    table = F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).transpose(1, 2)
    forth = table.masked_fill((right_weights <= 0)[:, None, :], -2.0).amax(2)
    back = table.masked_fill((left_weights <= 0)[:, :, None], -2.0).amax(1)
    return (_average(forth, left_weights) + _average(back, right_weights)) / 2


def _average(values: Tensor, weights: Tensor) -> Tensor:
    weights = weights.to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1).clamp_min(1e-9)


def match_types(input_ids: Tensor, token_type_ids: Tensor, special: Tensor) -> Tensor:
    """Token types that also tell whether a token occurs in the other text of the pair.

    Args:
        input_ids: (B, L) both texts in one sequence.
        token_type_ids: (B, L), 0 for the first text and 1 for the second.
        special: (B, L) bool, True on special tokens and padding, which match nothing.

    Returns:
        (B, L): 0 and 1 as before, plus 2 on tokens that occur in the other text.

    >>> import torch
    >>> ids, types = torch.tensor([[5, 6, 6, 7]]), torch.tensor([[0, 0, 1, 1]])
    >>> match_types(ids, types, torch.zeros(1, 4, dtype=torch.bool)).tolist()
    [[0, 2, 3, 1]]
    """
    same = input_ids[:, :, None] == input_ids[:, None, :]
    other = token_type_ids[:, :, None] != token_type_ids[:, None, :]
    matched = (same & other & ~special[:, None, :]).any(2) & ~special
    return token_type_ids + 2 * matched.to(token_type_ids.dtype)
