"""What a way of giving positions inside the attention function is."""

from __future__ import annotations

from torch import Tensor


class Positions:
    """Base of positions applied inside attention: here none at all ("NoPE").

    Queries are (B, H, Q, d), keys (B, Hk, K, d). Key j stands at position j and query i at
    ``offset + i``; a cache of earlier keys makes offset positive. Only distances matter to every
    subclass, so padding on the left does no harm.
    """

    def in_training(self) -> Positions:
        """What layers in training mode use instead; itself by default."""
        return self

    def rotate(self, query: Tensor, key: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Queries and keys with their positions worked in; identity by default."""
        return query, key

    def bias(self, query: Tensor, key: Tensor, offset: int) -> Tensor | None:
        """A bias (1, H, Q, K) to add to the scaled logits, or None."""
        return None

    def logits(self, query: Tensor, key: Tensor, rows: slice, offset: int) -> Tensor | None:
        """Unscaled logits (B, H, rows, K) of a run of query rows where a product of rotated vectors
        does not give them (keys already repeated for every head); None by default."""
        return None
