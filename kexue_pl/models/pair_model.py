"""An encoder, a pooling and an interaction: what a pair of texts goes through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kexue_pl.models.alignment import Alignment
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
    """

    special: Tensor

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
        states = self.encoder(input_ids, attention_mask)
        return pool(states, self._weights(input_ids, attention_mask), self.pooling)

    def _weights(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder.token_weights(input_ids, attention_mask)

    def _tokens(self, batch: dict[str, Tensor], side: str) -> tuple[Tensor, Tensor]:
        ids, mask = batch[f"{side}_ids"], batch[f"{side}_mask"]
        return self.encoder(ids, mask), self._weights(ids, mask)

    def embeddings(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(B, H) each: the embeddings of both texts (bi)."""
        left = self.embed(batch["left_ids"], batch["left_mask"])
        return left, self.embed(batch["right_ids"], batch["right_mask"])

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
            types = match_types(ids, types, torch.isin(ids, self.special))
        states = self.encoder(ids, mask, types)
        out: Tensor = self.head(pool(states, self._weights(ids, mask), self.pooling))
        return out
