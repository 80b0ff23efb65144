"""Static embeddings: one learned vector and one learned weight a token, no context."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_pl.models.encoder import Encoder
from kexue_pl.models.interaction import check_interaction
from kexue_pl.models.pooling import check_pooling
from kexue_pl.models.tokenizers import train_tokenizer

__all__ = ["Static", "StaticEncoder"]

_SOFTPLUS_OF_ONE = math.log(math.e - 1)  # softplus of this is 1


class StaticEncoder(Encoder):
    """Token embeddings, and a positive weight a token that means take into account.

    Args:
        vocab_size: rows of the table.
        hidden_size: H, width.
        bigrams: buckets of hashed pairs of neighbouring tokens, whose vector is added to that of
            the pair's first token; 0 for none.
        dropout: share of dimensions dropped in training.
    """

    special_tokens = False

    def __init__(
        self, vocab_size: int, hidden_size: int, *, bigrams: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.table = nn.Embedding(vocab_size, hidden_size)
        self.gain = nn.Embedding(vocab_size, 1)
        nn.init.constant_(self.gain.weight, _SOFTPLUS_OF_ONE)
        self.pairs = nn.Embedding(bigrams, hidden_size) if bigrams else None
        self.dropout = nn.Dropout(dropout)

    @property
    def embeddings(self) -> nn.Embedding:
        """The table of token vectors."""
        return self.table

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """(B, L, H) the vectors of the tokens."""
        states: Tensor = self.table(input_ids)
        if self.pairs is not None:
            after = F.pad(input_ids[:, 1:], (0, 1)) * F.pad(attention_mask[:, 1:], (0, 1))
            bucket = (input_ids * 1_000_003 + after * 7919) % self.pairs.num_embeddings
            states = states + self.pairs(bucket)
        dropped: Tensor = self.dropout(states)
        return dropped

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, how: str) -> Tensor | None:
        """(B, H) weighted means without the (B, L, H) states; None where states are needed."""
        dropped = self.dropout.p > 0 and self.training
        if how != "mean" or dropped or self.pairs is not None or input_ids.device.type != "cpu":
            return None
        ids, lengths = input_ids[attention_mask.bool()], attention_mask.sum(1)
        starts = lengths.cumsum(0) - lengths
        weights = F.softplus(self.gain(ids)[:, 0])
        total = F.embedding_bag(
            ids, self.table.weight, starts, mode="sum", per_sample_weights=weights
        )
        mass = weights.new_zeros(len(lengths))
        mass = mass.index_add(0, torch.repeat_interleave(lengths), weights)
        return total / mass[:, None].clamp_min(1e-9)

    def token_weights(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L) softplus of the learned gain, 0 on padding; 1 for all tokens at the start."""
        gain: Tensor = F.softplus(self.gain(input_ids)[..., 0])
        return gain * attention_mask


class Static:
    """Specification of a static encoder: the fast baseline, hard to beat from scratch.

    Args:
        hidden_size: H, width of the vectors.
        pooling: ``mean`` (weighted by the learned token weights) or ``max``.
        interaction: ``bi``, ``late`` or ``cross`` (soft alignment of the tokens of both texts).
        tokenizer: ``char``, ``wordpiece`` or ``bpe``.
        vocab_size: most tokens.
        min_frequency: rarer characters or pieces get no token of their own.
        bigrams: buckets of hashed bigrams, 0 for none.
        dropout: share of dimensions dropped in training.
        lr: learning rate that suits this model; tasks take it as the optimizer's default.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 256,
        pooling: str = "mean",
        interaction: str = "bi",
        tokenizer: str = "char",
        vocab_size: int = 8000,
        min_frequency: int = 3,
        bigrams: int = 0,
        dropout: float = 0.0,
        lr: float = 1e-2,
    ) -> None:
        if check_pooling(pooling) not in ("mean", "max"):
            raise ValueError(f"model.pooling={pooling!r}: a static model takes mean or max")
        self.hidden_size, self.pooling, self.lr = hidden_size, pooling, lr
        self.interaction = check_interaction(interaction)
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self.min_frequency, self.bigrams, self.dropout = min_frequency, bigrams, dropout
        self.match_flag = False
        self.joined = False

    def load_tokenizer(self) -> None:
        """None: the vocabulary is trained."""
        return

    def train_tokenizer(self, texts: Iterable[str]) -> Any:
        """A tokenizer trained on ``texts``."""
        return train_tokenizer(
            texts,
            kind=self.tokenizer,
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
        )

    def build(self, tokenizer: Any, *, attention: Any = None) -> StaticEncoder:
        """The encoder for a vocabulary.

        Raises:
            ValueError: an attention scaling was asked for; there is no attention here.
        """
        if attention is not None:
            raise ValueError("attention: model=static has no attention; use model=small")
        return StaticEncoder(
            len(tokenizer), self.hidden_size, bigrams=self.bigrams, dropout=self.dropout
        )
