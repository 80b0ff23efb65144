"""What a beam search asks of a model."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from kexue_pl.retrieval.beam_state import Ints


class StepDecoder(Protocol):
    """A model bound to a batch of questions, writing one token a beam at a time."""

    def start(self) -> Tensor:
        """Logits of the first token of every question, (B, V)."""
        ...

    def step(self, question: Ints, parent: Ints, token: Ints) -> Tensor:
        """Logits after one more token of each live beam, (N, V).

        Args:
            question: (N,), which question each beam answers; ascending.
            parent: (N,), the beam of the previous call (row of its logits) this one continues.
            token: (N,), the token it continues with.
        """
        ...
