"""What answering questions with keys asks of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kexue_pl.retrieval.decoder import StepDecoder

Tokens = Sequence[Sequence[int]]


class KeyModel(nn.Module, ABC):
    """A model that reads a question and writes a key, whatever its body."""

    @property
    @abstractmethod
    def embeddings(self) -> nn.Embedding:
        """The word embeddings of questions."""

    @abstractmethod
    def target_log_p(self, input_ids: Tensor, segment: Tensor, attention_mask: Tensor) -> Tensor:
        """Log-probability of each token of the key, (B, T); 0 on padding.

        Args:
            input_ids: (B, L), ``[CLS] Q [SEP] S [SEP] P [SEP] M [SEP]``.
            segment: (B, L), 0 on the question with its specials, 1 after.
            attention_mask: (B, L), 1 on tokens.
        """

    @abstractmethod
    def step_decoder(self, ids: Tensor, mask: Tensor) -> StepDecoder:
        """A decoder bound to questions ``[CLS] Q [SEP]`` (B, L)."""

    @abstractmethod
    def branch_log_p(
        self, sources: Tokens, prefixes: Tokens, branches: Sequence[Tokens]
    ) -> list[NDArray[np.float64]]:
        """log p(branch | source, prefix) of all branches of each row, one array a row."""
