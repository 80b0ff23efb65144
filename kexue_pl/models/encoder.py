"""What all text encoders share: token ids in, one vector a token out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["Encoder", "TransformerEncoder"]


class Encoder(nn.Module):
    """Base of text encoders; a subclass writes ``forward``.

    Attributes:
        hidden_size: H, width of the vectors.
        embeddings: the input embedding layer.
        special_tokens: whether inputs carry the tokenizer's special tokens ([CLS] ... [SEP]).
        max_length: most tokens of one input; None where there is no limit.
        contextual: whether tokens see each other, so that padding costs more than memory.
    """

    hidden_size: int
    contextual: bool = False
    special_tokens: bool = True
    max_length: int | None = None

    @property
    def embeddings(self) -> nn.Embedding:
        """The input embedding layer, which penalties perturb."""
        raise NotImplementedError

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Hidden states.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 on tokens and 0 on padding.
            token_type_ids: (B, L) int64, None where there is one segment.

        Returns:
            (B, L, H); values on padding mean nothing.
        """
        raise NotImplementedError

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, how: str) -> Tensor | None:
        """(B, H) pooled states by a way that is shorter than states and pooling; None without one.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L).
            how: see :func:`kexue_pl.models.pooling.pool`.
        """
        return None

    def token_weights(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L) weights of the tokens in means: 0 on padding, 1 elsewhere unless learned."""
        return attention_mask.to(self.embeddings.weight.dtype)


class TransformerEncoder(Encoder):
    """A transformers model as an encoder.

    Args:
        body: any model whose output has ``last_hidden_state``.
        max_length: most tokens of one input.
        first_last: return the mean of the first and the last layer's states instead of the last.
    """

    contextual = True

    def __init__(self, body: Any, *, max_length: int | None = None, first_last: bool = False):
        super().__init__()
        self.body = body
        self.hidden_size = int(body.config.hidden_size)
        self.max_length = max_length
        self.first_last = first_last
        self.takes_types = int(getattr(body.config, "type_vocab_size", 0) or 0) > 1

    @property
    def embeddings(self) -> nn.Embedding:
        """The word embeddings of the body."""
        layer = self.body.get_input_embeddings()
        assert isinstance(layer, nn.Embedding)
        return layer

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """(B, L, H) states of the last layer, or the mean of first and last."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.takes_types and token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        out = self.body(**inputs, output_hidden_states=self.first_last)
        if not self.first_last:
            last: Tensor = out.last_hidden_state
            return last
        mean: Tensor = (out.hidden_states[1] + out.hidden_states[-1]) / 2
        return mean
