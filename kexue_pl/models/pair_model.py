"""An encoder, a pooling and an interaction: what a pair of texts goes through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_pl.models.alignment import Alignment
from kexue_pl.models.by_length import encode_by_length
from kexue_pl.models.encoder import Encoder
from kexue_pl.models.interaction import check_interaction, match_types, maxsim
from kexue_pl.models.pooling import check_pooling, pool

__all__ = ["PairModel"]


class PairModel(nn.Module):
    """Embeddings, late similarities or logits of pairs, as the interaction has it.

    Args:
        encoder: a text encoder.
        pooling: see :func:`kexue_pl.models.pooling.pool`.
        interaction: ``bi``, ``late`` or ``cross``.
        outputs: logits a pair of a cross-encoder.
        joined: cross only: both texts stand in one sequence; else their tokens are aligned.
        match_flag: cross only: token types tell which tokens occur in both texts.
        special_ids: ids of special tokens, which never match.

    Attributes:
        short_cuts: on the CPU, both texts of a bi-encoder go through the encoder together, in groups
            of like length, and static vectors are summed without being looked up one by one. False
            gives every layer the batch as it is, for what watches or changes layers (penalties).
    """

    special: Tensor
    short_cuts: bool = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        pooling: str = "mean",
        interaction: str = "bi",
        outputs: int = 1,
        joined: bool = True,
        match_flag: bool = False,
        special_ids: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = check_pooling(pooling)
        self.interaction = check_interaction(interaction)
        self.joined = joined and interaction == "cross"
        self.match_flag = match_flag
        self.register_buffer("special", torch.tensor(special_ids, dtype=torch.long), False)
        self.head: nn.Module | None = None
        if interaction == "cross":
            width = encoder.hidden_size
            self.head = nn.Linear(width, outputs) if self.joined else Alignment(width, outputs)

    @classmethod
    def from_spec(
        cls, spec: Any, tokenizer: Any, *, outputs: int = 1, attention: Any = None
    ) -> PairModel:
        """The model of a specification (``kexue_pl.models.Static``, ``Small``, ``Pretrained``)."""
        return cls(
            spec.build(tokenizer, attention=attention),
            pooling=spec.pooling,
            interaction=spec.interaction,
            outputs=outputs,
            joined=spec.joined,
            match_flag=spec.match_flag,
            special_ids=tuple(tokenizer.all_special_ids),
        )

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, H) embeddings of texts given as (B, L) ids and mask."""
        if self.short_cuts:
            found = self.encoder.pooled(input_ids, attention_mask, self.pooling)
            if found is not None:
                return found
        states = self._states(input_ids, attention_mask)
        return pool(states, self._weights(input_ids, attention_mask), self.pooling)

    def _states(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        grouped = self.short_cuts and ids.device.type == "cpu" and self.encoder.contextual
        states: Tensor = (encode_by_length if grouped else _at_once)(self.encoder, ids, mask, types)
        return states

    def _weights(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder.token_weights(input_ids, attention_mask)

    def _tokens(self, batch: dict[str, Tensor], side: str) -> tuple[Tensor, Tensor]:
        ids, mask = batch[f"{side}_ids"], batch[f"{side}_mask"]
        return self._states(ids, mask), self._weights(ids, mask)

    def embeddings(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(B, H) each: the embeddings of both texts (bi)."""
        ids, masks = (
            [batch[f"{side}_{what}"] for side in ("left", "right")] for what in ("ids", "mask")
        )
        if self.short_cuts and ids[0].device.type == "cpu":
            both = self.embed(_stacked(ids), _stacked(masks))
            left, right = torch.split(both, len(ids[0]))
            return left, right
        return self.embed(ids[0], masks[0]), self.embed(ids[1], masks[1])

    def similarities(self, batch: dict[str, Tensor]) -> Tensor:
        """(B,) MaxSim of both texts (late)."""
        return maxsim(*self._tokens(batch, "left"), *self._tokens(batch, "right"))

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        """(B, C) logits of a cross-encoder."""
        assert self.head is not None
        if not self.joined:
            aligned: Tensor = self.head(*self._tokens(batch, "left"), *self._tokens(batch, "right"))
            return aligned
        ids, mask, types = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
        if self.match_flag:
            special = (ids[..., None] == self.special).any(-1)
            types = match_types(ids, types, special)
        states = self._states(ids, mask, types)
        out: Tensor = self.head(pool(states, self._weights(ids, mask), self.pooling))
        return out


def _at_once(encoder: Encoder, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
    states: Tensor = encoder(ids, mask, types)
    return states


def _stacked(sides: list[Tensor]) -> Tensor:
    """(2 B, L) both sides, filled up with 0 to the longer one; what is masked is never read."""
    most = max(side.shape[1] for side in sides)
    return torch.cat([F.pad(side, (0, most - side.shape[1])) for side in sides])
