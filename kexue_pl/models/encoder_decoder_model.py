"""An encoder-decoder of transformers as a writer of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kexue_pl.models.key_model import KeyModel, Tokens, with_total
from kexue_pl.penalties.outputs import record_output

ROWS = 256  # continuations at once


class EncoderDecoderModel(KeyModel):
    """BART, T5 and their like: the question goes to the encoder, the key to the decoder.

    Args:
        body: a ``…ForConditionalGeneration``.
        start: the decoder's first token.
    """

    def __init__(self, body: Any, *, start: int) -> None:
        super().__init__()
        self.body, self.first = body, start

    @property
    def embeddings(self) -> nn.Embedding:
        """The input embedding."""
        layer = self.body.get_input_embeddings()
        assert isinstance(layer, nn.Embedding)
        return layer

    def target_log_p(self, input_ids: Tensor, segment: Tensor, attention_mask: Tensor) -> Tensor:
        """Log-probability of each token of the key, (B, T); 0 on padding."""
        log_p, target, real = self._log_p(input_ids, segment, attention_mask)
        return torch.where(real, log_p.gather(-1, target[..., None])[..., 0], 0.0)

    def choice_log_p(
        self, input_ids: Tensor, segment: Tensor, attention_mask: Tensor, choices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each token of the key and of all its ``choices``, both (B, T)."""
        log_p, target, real = self._log_p(input_ids, segment, attention_mask)
        tokens = torch.cat([target[..., None], choices.clamp_min(0)], -1)
        return with_total(log_p.gather(-1, tokens), choices, real)

    def _log_p(
        self, input_ids: Tensor, segment: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (B, T, V) at each place of the key; its tokens (B, T); which are real."""
        source = attention_mask.bool() & (segment == 0)
        size, count = source.sum(1), segment.sum(1)
        longest = int(size.max())
        step = torch.arange(max(1, int(count.max())), device=input_ids.device)
        at = (size[:, None] + step).clamp(max=input_ids.shape[1] - 1)
        target = input_ids.gather(1, at)
        begin = torch.full_like(target[:, :1], self.first)
        logits = self.body(
            input_ids=input_ids[:, :longest],
            attention_mask=source[:, :longest].long(),
            decoder_input_ids=torch.cat([begin, target[:, :-1]], 1),
            use_cache=False,
        ).logits
        real = step < count[:, None]
        record_output(logits, real)
        return logits.float().log_softmax(-1), target, real

    def step_decoder(self, ids: Tensor, mask: Tensor) -> CachedDecoder:
        """A decoder with a key/value cache."""
        return CachedDecoder(self, ids, mask)

    @torch.no_grad()
    def branch_log_p(
        self, sources: Tokens, prefixes: Tokens, branches: Sequence[Tokens]
    ) -> list[NDArray[np.float64]]:
        """log p(branch | source, prefix), each continuation as a row of its own."""
        rows = [
            (source, prefix, branch)
            for source, prefix, found in zip(sources, prefixes, branches, strict=True)
            for branch in found
        ]
        scores: list[float] = []
        for start in range(0, len(rows), ROWS):
            scores += self._continuations(rows[start : start + ROWS])
        ends = np.cumsum([len(found) for found in branches])[:-1]
        return [np.asarray(part) for part in np.split(np.array(scores), ends)]

    def _continuations(self, rows: list[tuple[Any, Any, Any]]) -> list[float]:
        width = max(len(s) + len(p) + len(b) for s, p, b in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        segment, mask = torch.zeros_like(ids), torch.zeros_like(ids)
        for i, (source, prefix, branch) in enumerate(rows):
            whole = [*source, *prefix, *branch]
            ids[i, : len(whole)] = torch.tensor(whole)
            mask[i, : len(whole)] = 1
            segment[i, len(source) : len(whole)] = 1
        device = self.embeddings.weight.device
        log_p = self.target_log_p(ids.to(device), segment.to(device), mask.to(device)).double()
        return [
            float(log_p[i, len(prefix) : len(prefix) + len(branch)].sum())
            for i, (_, prefix, branch) in enumerate(rows)
        ]


class CachedDecoder:
    """Step decoder of an encoder-decoder: the cache is gathered by parent at every step.

    Args:
        model: in evaluation mode.
        ids: (B, L) questions, padded on the right.
        mask: (B, L), 1 on tokens.
    """

    def __init__(self, model: EncoderDecoderModel, ids: Tensor, mask: Tensor) -> None:
        self.model, self.ids, self.mask = model, ids, mask
        self.device = ids.device

    @torch.no_grad()
    def start(self) -> Tensor:
        """Logits of the first token, (B, V)."""
        from transformers import DynamicCache, EncoderDecoderCache

        body = self.model.body
        self.encoded = body.get_encoder()(input_ids=self.ids, attention_mask=self.mask)[0]
        self.cache: Any = EncoderDecoderCache(DynamicCache(), DynamicCache())
        first = torch.full_like(self.ids[:, :1], self.model.first)
        return self._logits(first, np.arange(len(self.ids)))

    @torch.no_grad()
    def step(
        self, question: NDArray[np.int64], parent: NDArray[np.int64], token: NDArray[np.int64]
    ) -> Tensor:
        """Logits after one more token of each live beam, (N, V)."""
        self.cache.batch_select_indices(torch.from_numpy(parent).to(self.device))
        return self._logits(torch.from_numpy(token).to(self.device)[:, None], question)

    def _logits(self, tokens: Tensor, question: NDArray[np.int64]) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        at = torch.from_numpy(question).to(self.device)
        out = self.model.body(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.encoded[at]),
            attention_mask=self.mask[at],
            decoder_input_ids=tokens,
            use_cache=True,
            **{_cache_name(self.model.body): self.cache},
        )
        logits: Tensor = out.logits[:, -1]
        return logits


def _cache_name(body: Any) -> str:
    """transformers renamed the argument between minor versions."""
    import inspect

    takes = inspect.signature(body.forward).parameters
    return "cache" if "cache" in takes else "past_key_values"
