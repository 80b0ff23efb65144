"""What answering questions with keys asks of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
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
    def choice_log_p(
        self, input_ids: Tensor, segment: Tensor, attention_mask: Tensor, choices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``target_log_p`` and, beside it, the log-probability of all allowed tokens together.

        Args:
            input_ids, segment, attention_mask: (B, L), as there.
            choices: (B, T, C) token ids that may stand at each place of the key, the right one
                among them, padded by -1; a place without any is not constrained.

        Returns:
            log p of the right tokens and log of the sum of p over the choices, both (B, T); the
            second is 0 where there are no choices. Their difference is log p normalised over the
            allowed tokens, as a constrained search sees it.
        """

    @abstractmethod
    def step_decoder(self, ids: Tensor, mask: Tensor) -> StepDecoder:
        """A decoder bound to questions ``[CLS] Q [SEP]`` (B, L)."""

    @abstractmethod
    def branch_log_p(
        self, sources: Tokens, prefixes: Tokens, branches: Sequence[Tokens]
    ) -> list[NDArray[np.float64]]:
        """log p(branch | source, prefix) of all branches of each row, one array a row."""


def with_total(log_p: Tensor, choices: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """What ``choice_log_p`` returns, from log p of target and choices.

    Args:
        log_p: (B, T, 1 + C), the right token first.
        choices: (B, T, C), padded by -1.
        real: (B, T), which places hold a token of the key.
    """
    padding = choices < 0
    some = real & ~padding.all(-1)
    # Where there are no choices the sum is of anything finite, so that no gradient is NaN.
    allowed = log_p[..., 1:].masked_fill(padding & some[..., None], float("-inf"))
    total = torch.where(some, allowed.logsumexp(-1), 0.0)
    return torch.where(real, log_p[..., 0], 0.0), total
