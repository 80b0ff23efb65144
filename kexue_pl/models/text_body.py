"""Parts of a small masked language model that is trained briefly on text."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["GELULayer", "ScaledEmbedding", "TiedHead", "suit_text"]


class ScaledEmbedding(nn.Embedding):
    """Embedding whose weights stay small for the output while its rows enter the layers larger.

    Adam moves every weight by about as much, so words that count eight times over are learned
    eight times as fast at the input; at the output small weights start from even guesses.

    >>> import torch
    >>> words = ScaledEmbedding(3, 2)
    >>> bool((words(torch.tensor([1])) == 8 * words.weight[1]).all())
    True
    """

    factor = 8.0

    def forward(self, input: Tensor) -> Tensor:
        """Rows of the table times ``factor``, (..., H)."""
        return super().forward(input) * self.factor


class TiedHead(nn.Module):
    """Logits straight from the normalised states, by the embedding's weights and a bias.

    Args:
        words: the input embedding, whose weights are shared.
    """

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self.decoder = nn.Linear(words.embedding_dim, words.num_embeddings)
        self.decoder.weight = words.weight
        nn.init.zeros_(self.decoder.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Logits (..., V) of states (..., H)."""
        logits: Tensor = self.decoder(states)
        return logits


class GELULayer(nn.Module):
    """ESM's own widening layer with GELU in one kernel, where ESM takes five.

    Args:
        dense: the layer's weights.
    """

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, hidden_states: Tensor) -> Tensor:
        """States (..., 4 H) of states (..., H)."""
        return nn.functional.gelu(self.dense(hidden_states))


def suit_text(model: Any) -> None:
    """Put these parts into an ``EsmForMaskedLM``, with weights still to be drawn."""
    for layer in model.esm.encoder.layer:
        layer.intermediate = GELULayer(layer.intermediate.dense)
    old = model.get_input_embeddings()
    words = ScaledEmbedding(old.num_embeddings, old.embedding_dim, padding_idx=old.padding_idx)
    model.set_input_embeddings(words)
    model.lm_head = TiedHead(words)
