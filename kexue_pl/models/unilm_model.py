"""One transformer that reads a question and writes a key."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kexue_pl.models.copy_head import CopyHead, Places
from kexue_pl.models.key_model import KeyModel, Tokens, with_total
from kexue_pl.models.rotary import Rotary
from kexue_pl.models.unilm_mask import additive, unilm_sees
from kexue_pl.penalties.outputs import listening, record_output
from kexue_pl.retrieval.decoder import StepDecoder


class UniLMModel(KeyModel):
    """A BERT body under the UniLM mask with an output head.

    Args:
        body: a transformers model with ``input_ids``, ``token_type_ids``, ``position_ids``, a 4-D
            additive ``attention_mask`` and a key/value cache, built as a decoder.
        copy: let the head copy from the question.
        rope: rotary positions in place of the body's own.
    """

    def __init__(self, body: Any, *, copy: bool = True, rope: bool = False) -> None:
        super().__init__()
        self.body = body
        self.rotary = Rotary(body) if rope else None
        self.max_length = int(body.config.max_position_embeddings)
        self.head = CopyHead(int(body.config.hidden_size), int(body.config.vocab_size), copy=copy)
        # transformers renamed the argument between minor versions.
        takes = inspect.signature(body.forward).parameters
        self._cache_name = "cache" if "cache" in takes else "past_key_values"

    @property
    def embeddings(self) -> nn.Embedding:
        """The input embedding, also the output's."""
        layer = self.body.get_input_embeddings()
        assert isinstance(layer, nn.Embedding)
        return layer

    def states(
        self,
        ids: Tensor,
        segment: Tensor,
        sees: Tensor,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Hidden states (B, Q, H) of ``ids`` (B, Q), whose rows of ``sees`` (B, Q, K) are bool.

        K counts cached positions first, then the Q new ones, which are added to ``cache``. Without
        ``positions`` (B, Q) they are counted from 0.
        """
        if self.rotary is not None:
            counted = torch.arange(ids.shape[1], device=ids.device)
            self.rotary.place(counted if positions is None else positions)
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "token_type_ids": segment,
            "attention_mask": additive(sees, self.embeddings.weight.dtype)[:, None],
            "position_ids": positions,
            "use_cache": cache is not None,
        }
        if cache is not None:
            inputs[self._cache_name] = cache
        out: Tensor = self.body(**inputs).last_hidden_state
        return out

    def forward(self, input_ids: Tensor, segment: Tensor, attention_mask: Tensor) -> Tensor:
        """Log-probabilities of the token after each position, (B, L, V).

        Args:
            input_ids: (B, L), ``[CLS] Q [SEP] S [SEP] P [SEP] M [SEP]``.
            segment: (B, L), 0 on the question with its specials, 1 after.
            attention_mask: (B, L), 1 on tokens.
        """
        states = self.states(input_ids, segment, unilm_sees(segment, attention_mask))
        source = attention_mask.bool() & (segment == 0)
        longest = int(source.sum(1).max())
        return torch.as_tensor(
            self.head(
                Places(
                    states,
                    input_ids,
                    self.embeddings.weight,
                    states[:, :longest],
                    input_ids[:, :longest],
                    source[:, :longest],
                )
            )
        )

    def target_log_p(self, input_ids: Tensor, segment: Tensor, attention_mask: Tensor) -> Tensor:
        """Log-probability of each token of the key, (B, T); 0 on padding.

        The head, the dear part, runs on the positions before a key token alone.
        """
        places, following, real = self._places(input_ids, segment, attention_mask)
        if listening():  # a penalty on the prediction needs the whole distribution
            log_p = record_output(self.head(places), real)
            chosen = log_p.gather(-1, following[..., None])[..., 0]
        else:
            chosen = self.head.of_tokens(following, places)
        return torch.where(real, chosen, 0.0)

    def choice_log_p(
        self, input_ids: Tensor, segment: Tensor, attention_mask: Tensor, choices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each token of the key and of all its ``choices``, both (B, T)."""
        length = choices.shape[1]
        places, following, real = self._places(input_ids, segment, attention_mask, length)
        tokens = torch.cat([following[..., None], choices.clamp_min(0)], -1)
        if listening():
            log_p = record_output(self.head(places), real).gather(-1, tokens)
        else:
            log_p = self.head.of_choices(tokens, places)
        return with_total(log_p, choices, real)

    def _places(
        self, input_ids: Tensor, segment: Tensor, attention_mask: Tensor, length: int | None = None
    ) -> tuple[Places, Tensor, Tensor]:
        """What the head needs before each token of the key; those tokens, (B, T); which are real.

        T is ``length``, or that of the longest key.
        """
        states = self.states(input_ids, segment, unilm_sees(segment, attention_mask))
        source = attention_mask.bool() & (segment == 0)
        size, count = source.sum(1), segment.sum(1)
        longest = int(size.max())
        length = max(1, int(count.max())) if length is None else length
        step = torch.arange(length, device=input_ids.device)
        before = (size[:, None] - 1 + step).clamp(max=input_ids.shape[1] - 2)
        rows = torch.arange(len(input_ids), device=input_ids.device)[:, None]
        places = Places(
            states[rows, before],
            input_ids[rows, before],
            self.embeddings.weight,
            states[:, :longest],
            input_ids[:, :longest],
            source[:, :longest],
        )
        return places, input_ids[rows, before + 1], step < count[:, None]

    def step_decoder(self, ids: Tensor, mask: Tensor) -> StepDecoder:
        """A decoder of questions (B, L), one token a beam at a time; see ``TreeDecoder``."""
        from kexue_pl.models.tree_decoder import TreeDecoder

        return TreeDecoder(self, ids, mask)

    def branch_log_p(
        self, sources: Tokens, prefixes: Tokens, branches: Sequence[Tokens]
    ) -> list[NDArray[np.float64]]:
        """Log-probabilities of many continuations of each prefix; see ``branches.branch_log_p``."""
        from kexue_pl.models.branches import branch_log_p

        return branch_log_p(self, sources, prefixes, branches)
