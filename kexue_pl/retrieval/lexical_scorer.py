"""Log-linear scores of whole segments, learned in seconds."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_pl.retrieval.lexical import FEATURES
from kexue_pl.retrieval.strings import Strings


class LexicalScorer(nn.Module):
    """Scores of a name and of a predicate given the question.

        name:       a |S| + b log(1 + df(S)) + u(question with S masked)
        predicate:  w · lexical(question with S masked, P)

    df(S) counts training questions that contain S, so that common words which are also names lose;
    u is a small convolution. A softmax over the names found and one over the predicates of a name
    make of both a distribution over the keys.

    Args:
        vocabulary: number of token ids, the placeholder of the name included.
        hidden: width of the convolution.
    """

    def __init__(self, vocabulary: int, *, hidden: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(1))
        self.norm = nn.LayerNorm(hidden)
        self.name = nn.Sequential(nn.Linear(hidden, 64), nn.GELU(), nn.Linear(64, 1))
        self.name_weights = nn.Parameter(torch.tensor([0.3, -0.5]))
        self.lexical = nn.Linear(FEATURES, 1)
        nn.init.zeros_(self.lexical.weight)
        with torch.no_grad():
            self.lexical.weight[0, 0] = 3.0  # starts as the model-free rule

    def names(self, questions: Tensor, mask: Tensor, length: Tensor, df: Tensor) -> Tensor:
        """Scores of names, (N,).

        Args:
            questions: (N, L) masked questions, padded.
            mask: (N, L) bool, True on tokens.
            length: (N,) tokens of the name.
            df: (N,) training questions that hold the name.
        """
        x = self.embedding(questions)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x) * mask[..., None]
        pooled = x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        known = torch.stack([length.float(), torch.log1p(df.float())], -1)
        return torch.as_tensor(self.name(pooled)[:, 0] + known @ self.name_weights)

    def predicates(self, features: Tensor) -> Tensor:
        """Scores of predicates from their lexical features (…, 9), shape (…)."""
        return torch.as_tensor(self.lexical(features)[..., 0])


class _Block(nn.Module):
    def __init__(self, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.convolution = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.out, self.dropout = nn.Linear(hidden, hidden), nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.convolution((self.norm(x) * mask[..., None]).transpose(1, 2)).transpose(1, 2)
        return torch.as_tensor(x + self.dropout(self.out(F.gelu(y))))


def pad(strings: Strings) -> tuple[Tensor, Tensor]:
    """Ids (N, L) padded with 0 and the mask (N, L) of tokens."""
    width = max(1, int(strings.lengths.max(initial=0)))
    mask = np.arange(width) < strings.lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = strings.flat
    return torch.from_numpy(ids), torch.from_numpy(mask)


def cosine_rate(step: int, total: int, warmup: int = 100) -> float:
    """Learning rate factor: linear warm-up, then half a cosine down to 0.02.

    Example:
        >>> [round(cosine_rate(s, 1000), 2) for s in (0, 99, 550, 1000)]
        [0.01, 1.0, 0.51, 0.02]
    """
    rise = min(1.0, (step + 1) / min(warmup, max(1, total // 5)))
    progress = max(0.0, (step - warmup) / max(1, total - warmup))
    return rise * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, progress))))
