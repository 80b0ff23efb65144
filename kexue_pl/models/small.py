"""A small transformer from a configuration, with weights drawn anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexue_pl.models.encoder import TransformerEncoder
from kexue_pl.models.interaction import check_interaction
from kexue_pl.models.pooling import check_pooling
from kexue_pl.models.tokenizers import train_tokenizer

__all__ = ["Small"]


class Small:
    """Specification of a BERT built from a configuration; by default about 1M parameters.

    Args:
        hidden_size: H, a multiple of ``heads``.
        layers: transformer layers.
        heads: attention heads a layer.
        intermediate_size: width of the feed-forward layers; None for 4 H.
        max_length: most tokens of one input.
        dropout: of hidden states and attention weights, 0 to 1.
        pooling: ``cls``, ``mean``, ``max`` or ``first_last_mean``.
        interaction: ``bi``, ``late`` or ``cross``; read by task=matching.
        match_flag: cross only: the token type also tells whether the token occurs in the other
            text, without which a model from scratch hardly learns to compare.
        tokenizer: ``char``, ``wordpiece`` or ``bpe``.
        vocab_size: most tokens.
        min_frequency: rarer characters or pieces get no token of their own.
        lr: learning rate that suits this model; tasks take it as the optimizer's default.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 128,
        layers: int = 2,
        heads: int = 4,
        intermediate_size: int | None = None,
        max_length: int = 128,
        dropout: float = 0.1,
        pooling: str = "mean",
        interaction: str = "bi",
        match_flag: bool = True,
        tokenizer: str = "char",
        vocab_size: int = 8000,
        min_frequency: int = 2,
        lr: float = 1e-3,
    ) -> None:
        if hidden_size % heads:
            do = "choose a multiple of model.heads"
            raise ValueError(f"model.hidden_size={hidden_size}, model.heads={heads}: {do}")
        self.hidden_size, self.layers, self.heads = hidden_size, layers, heads
        self.intermediate_size = intermediate_size or 4 * hidden_size
        self.max_length, self.dropout, self.lr = max_length, dropout, lr
        self.pooling, self.interaction = check_pooling(pooling), check_interaction(interaction)
        self.match_flag = match_flag and interaction == "cross"
        self.joined = interaction == "cross"
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self.min_frequency = min_frequency

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
            max_length=self.max_length,
        )

    def build(self, tokenizer: Any, *, attention: Any = None) -> TransformerEncoder:
        """The encoder for a vocabulary, its weights drawn from the current random state.

        Args:
            tokenizer: whose vocabulary the embeddings cover.
            attention: a scaling of ``kexue_pl.attention``, None for the usual one.
        """
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.intermediate_size,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            max_position_embeddings=self.max_length,
            type_vocab_size=4 if self.match_flag else 2,
            pad_token_id=tokenizer.pad_token_id,
        )
        body = BertModel(config, add_pooling_layer=False)
        if attention is not None:
            from kexue_pl.attention import install

            install(body, attention)
        return TransformerEncoder(
            body, max_length=self.max_length, first_last=self.pooling == "first_last_mean"
        )
