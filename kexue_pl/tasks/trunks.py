"""What the tasks of a multi-task model share: batch in, one encoding out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["FeatureTrunk", "TextTrunk"]


class FeatureTrunk(nn.Module):
    """A multilayer perceptron over ``batch["x"]``: (B, D) -> (B, 1, H).

    Args:
        features: D.
        widths: of the layers; the last one is H.

    Raises:
        ValueError: no width, or one that is not positive.

    >>> import torch
    >>> FeatureTrunk(5, [8, 4])({"x": torch.zeros(3, 5)}).shape
    torch.Size([3, 1, 4])
    """

    def __init__(self, features: int, widths: Sequence[int]) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"task.widths={list(widths)}: expected at least one positive width")
        layers: list[nn.Module] = []
        for before, after in zip([features, *widths], widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        # What penalties on the input of the network watch and shift.
        self.inputs = nn.Identity()
        self.layers = nn.Sequential(*layers)
        self.hidden_size = widths[-1]

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """(B, 1, H)."""
        out: Tensor = self.layers(self.inputs(batch["x"]))
        return out[:, None]


class TextTrunk(nn.Module):
    """A text encoder and its pooling over S texts a row: (B, S, L) token ids -> (B, S, H).

    Args:
        encoder: as a model specification builds it.
        pooling: a name of ``kexue_pl.models.pooling``.
        tokens: share the states of all tokens, which heads of token tasks read; the others pool them.
    """

    def __init__(self, encoder: Any, pooling: str, *, tokens: bool = False) -> None:
        super().__init__()
        self.encoder, self.pooling, self.tokens = encoder, pooling, tokens
        self.hidden_size = int(encoder.hidden_size)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """(B, S, H); (B, S, L, H) with ``tokens``."""
        ids = batch["input_ids"]
        states = self.encoder(ids.flatten(0, 1), batch["attention_mask"].flatten(0, 1))
        if self.tokens:
            whole: Tensor = states.view(*ids.shape[:2], *states.shape[1:])
            return whole
        return self._pooled(states, batch)

    def pool(self, shared: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """(B, S, H) of what ``forward`` gave."""
        return self._pooled(shared.flatten(0, 1), batch) if self.tokens else shared

    def _pooled(self, states: Tensor, batch: dict[str, Tensor]) -> Tensor:
        from kexue_pl.models.pooling import pool

        ids, mask = batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1)
        out: Tensor = pool(states, self.encoder.token_weights(ids, mask), self.pooling)
        return out.view(*batch["input_ids"].shape[:2], -1)
