"""Beams of one question as branches of a tree over one shared key/value cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kexue_pl.models.copy_head import Places
from kexue_pl.models.unilm_model import UniLMModel

Ints = NDArray[np.int64]
SHRINK = 0.75  # drop finished questions from the cache when fewer than this share are live


class TreeDecoder:
    """Step decoder of a UniLM for a batch of questions (see ``kexue_pl.retrieval.StepDecoder``).

    The question is read once. Its cache holds the question and every token any of its beams ever
    wrote; a beam is a row of a mask that shows its own ancestors. So nothing is repeated a beam,
    and reordering beams gathers rows of booleans instead of keys and values.

    Args:
        model: in evaluation mode.
        ids: (B, L) questions ``[CLS] Q [SEP]``, padded on the right.
        mask: (B, L), 1 on tokens.
    """

    def __init__(self, model: UniLMModel, ids: Tensor, mask: Tensor) -> None:
        self.model, self.ids, self.mask = model, ids, mask.bool()
        self.device = ids.device

    @torch.no_grad()
    def start(self) -> Tensor:
        """Log-probabilities of the first token, (B, V)."""
        from transformers import DynamicCache

        batch, length = self.ids.shape
        self.cache: Any = DynamicCache()
        sees = self.mask[:, None, :].expand(batch, length, length)
        positions = torch.arange(length, device=self.device).expand(batch, length)
        segment = torch.zeros_like(self.ids)
        self.source = self.model.states(self.ids, segment, sees, positions, self.cache)
        self.sizes = self.mask.sum(1)
        self.rows = np.arange(batch)  # which question each row of the cache belongs to
        self.visible, self.depth = self.mask, self.sizes
        last = self.source[torch.arange(batch, device=self.device), self.sizes - 1]
        token = self.ids[torch.arange(batch, device=self.device), self.sizes - 1]
        return self._log_p(last, token, np.arange(batch))

    @torch.no_grad()
    def step(self, question: Ints, parent: Ints, token: Ints) -> Tensor:
        """Log-probabilities after one more token of each live beam, (N, V)."""
        live = np.unique(question)
        if len(live) < SHRINK * len(self.rows):
            self._shrink(live)
        row = np.searchsorted(self.rows, question)
        slot = np.arange(len(question)) - np.searchsorted(question, question)
        at_row, at_slot, beam = (torch.from_numpy(x).to(self.device) for x in (row, slot, parent))
        shape, width = (len(self.rows), int(slot.max()) + 1), self.visible.shape[1]
        ids = torch.zeros(shape, dtype=torch.long, device=self.device)
        ids[at_row, at_slot] = torch.from_numpy(token).to(self.device)
        positions = torch.zeros_like(ids)
        positions[at_row, at_slot] = self.depth[beam]
        own = torch.eye(shape[1], dtype=torch.bool, device=self.device)
        sees = torch.zeros(*shape, width + shape[1], dtype=torch.bool, device=self.device)
        sees[..., width:] = own
        sees[at_row, at_slot, :width] = self.visible[beam]
        segment = torch.ones_like(ids)
        states = self.model.states(ids, segment, sees, positions, self.cache)
        self.visible = sees[at_row, at_slot]
        self.depth = self.depth[beam] + 1
        return self._log_p(states[at_row, at_slot], ids[at_row, at_slot], row)

    def _log_p(self, states: Tensor, token: Tensor, row: Ints) -> Tensor:
        at = torch.from_numpy(row).to(self.device)
        model = self.model
        source, ids, mask = self.source[at], self.ids[at], self.mask[at]
        embeddings = model.embeddings.weight
        places = Places(states[:, None], token[:, None], embeddings, source, ids, mask)
        out: Tensor = model.head(places)
        return out[:, 0]

    def _shrink(self, live: Ints) -> None:
        """Forget the rows of finished questions."""
        kept = torch.from_numpy(np.searchsorted(self.rows, live)).to(self.device)
        self.cache.batch_select_indices(kept)
        self.source, self.ids, self.mask = self.source[kept], self.ids[kept], self.mask[kept]
        self.rows = live
