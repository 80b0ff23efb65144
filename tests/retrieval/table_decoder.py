"""A random model conditioned on the question and the last two tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kexue_pl.retrieval import PrefixIndex

VOCABULARY = 8


class TableDecoder:
    def __init__(self, batch: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, VOCABULARY, VOCABULARY, VOCABULARY)
        self.table = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        self.calls = 0

    def logits(self, question: np.ndarray, last: np.ndarray) -> Tensor:
        return self.table[question, last[:, 0], last[:, 1]]

    def start(self) -> Tensor:
        batch = len(self.table)
        self.last = np.zeros((batch, 2), np.int64)
        return self.logits(np.arange(batch), self.last)

    def step(self, question: np.ndarray, parent: np.ndarray, token: np.ndarray) -> Tensor:
        self.calls += 1
        self.last = np.stack([self.last[parent, 1], token], axis=1)
        return self.logits(question, self.last)


def enumerate_keys(
    index: PrefixIndex, decoder: TableDecoder, question: int, renormalise: bool
) -> dict[tuple[int, ...], float]:
    """Score of every key by walking its own path."""
    out: dict[tuple[int, ...], float] = {}
    for row in range(len(index)):
        key, total, state, last = index.key(row), 0.0, index.start(1), np.zeros((1, 2), np.int64)
        for token in key:
            logits = decoder.logits(np.array([question]), last)[0]
            log_p = logits.log_softmax(-1)
            if renormalise:
                allowed = torch.from_numpy(index.allowed(state).token)
                log_p = log_p - log_p[allowed].logsumexp(0)
            total += float(log_p[token])
            state = index.advance(state, np.array([token]))
            last = np.array([[last[0, 1], token]])
        out[tuple(key)] = total
    return out
