"""Output distribution that may point at the question's own tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TINY = 1e-30


class Places(NamedTuple):
    """Positions that predict a token, with what may be copied there.

    Args:
        states: (N, T, H) of the positions.
        tokens: (N, T), the tokens at those positions.
        embeddings: (V, H), the input embedding.
        source: (N, L, H) states of the question.
        ids: (N, L), its tokens.
        mask: (N, L), which of them are real.
    """

    states: Tensor
    tokens: Tensor
    embeddings: Tensor
    source: Tensor
    ids: Tensor
    mask: Tensor


class CopyHead(nn.Module):
    """p = (1 - g) softmax(E f(h)) + g pointer, over the vocabulary.

    f is the masked-language head of BERT, E the input embedding (tied), pointer the attention of
    the state over the question's tokens added up by token (arXiv 1704.04368), g a gate. The
    pointer's score of a token rises by a learned amount where the token before it is the one just
    written, so that going on with a copy need not be learned from positions. A token that training
    never showed can still be copied.

    Args:
        hidden: H.
        vocabulary: V.
        copy: False leaves the softmax alone.
    """

    def __init__(self, hidden: int, vocabulary: int, *, copy: bool = True) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.LayerNorm(hidden))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.copy = copy
        if copy:
            self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
            self.gate = nn.Linear(hidden, 1)
            self.follow = nn.Parameter(torch.tensor([2.0]))

    def forward(self, places: Places) -> Tensor:
        """Log-probabilities of the next token at each place, (N, T, V) float32."""
        logits = self._logits(places)
        if not self.copy:
            return torch.as_tensor(logits.log_softmax(-1))
        points = self._pointer(places)
        pointer = torch.zeros_like(logits).scatter_add(
            -1, places.ids[:, None, :].expand(points.shape), points
        )
        return self._mixed(places, logits.softmax(-1), pointer)

    def of_tokens(self, chosen: Tensor, places: Places) -> Tensor:
        """Log-probability of one token at each place, (N, T): ``forward`` gathered at ``chosen``
        (N, T), without the mixture over the whole vocabulary, which is most of the cost.
        """
        logits = self._logits(places)
        written = -F.cross_entropy(logits.flatten(0, 1), chosen.flatten(), reduction="none")
        written = written.view(chosen.shape)
        if not self.copy:
            return written
        copied = (self._pointer(places) * (places.ids[:, None, :] == chosen[..., None])).sum(-1)
        return self._mixed(places, written.exp()[..., None], copied[..., None])[..., 0]

    def of_choices(self, choices: Tensor, places: Places) -> Tensor:
        """Log-probabilities of C tokens at each place, (N, T, C): ``forward`` gathered at
        ``choices`` (N, T, C).
        """
        logits = self._logits(places)
        written = logits.gather(-1, choices) - logits.logsumexp(-1, keepdim=True)
        if not self.copy:
            return torch.as_tensor(written)
        points = self._pointer(places)
        same = (places.ids[:, None, :, None] == choices[:, :, None, :]).to(points.dtype)
        copied = (points[:, :, None, :] @ same)[:, :, 0]
        return self._mixed(places, written.exp(), copied)

    def _mixed(self, places: Places, written: Tensor, copied: Tensor) -> Tensor:
        """Log of the mixture of two probabilities (N, T, …) by the gate."""
        gate = self.gate(places.states).float().sigmoid()
        mixed: Tensor = (1 - gate) * written + gate * copied
        return mixed.clamp_min(TINY).log()

    def _logits(self, places: Places) -> Tensor:
        transformed = self.transform(places.states)
        return F.linear(transformed, places.embeddings, self.bias).float()

    def _pointer(self, places: Places) -> Tensor:
        """Share of each token of the question in the copy, (N, T, L)."""
        states, ids = places.states, places.ids
        scores = self.query(states) @ self.key(places.source).transpose(1, 2)
        scores = scores * states.shape[-1] ** -0.5
        follows = torch.zeros_like(scores, dtype=torch.bool)
        follows[..., 1:] = ids[:, None, :-1] == places.tokens[..., None]
        scores = scores + self.follow * follows
        hidden = ~places.mask[:, None, :].bool()
        shares: Tensor = scores.float().masked_fill(hidden, float("-inf")).softmax(-1)
        return shares
