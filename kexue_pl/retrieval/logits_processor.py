"""The index for ``transformers.generate``, which knows neither beams nor their parents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kexue_pl.retrieval.beam_state import BeamState
from kexue_pl.retrieval.prefix_index import PrefixIndex

if TYPE_CHECKING:
    from transformers import StoppingCriteria


class PrefixIndexLogitsProcessor:
    """Keep ``generate`` on keys of the index; pass it in ``logits_processor``.

    States are remembered by prefix from step to step, since a processor sees token ids only. With
    the settings of ``generate_options`` the result is that of ``constrained_beam_search``.

    Args:
        index: the base.
        prompt_length: decoder tokens before the key: 1 for an encoder-decoder (its start token).
        renormalise: normalise over the allowed tokens at every step; ``generate`` does not by
            default.
        end: token written after a complete key.
    """

    def __init__(
        self, index: PrefixIndex, *, end: int, prompt_length: int = 1, renormalise: bool = True
    ) -> None:
        self.index, self.end = index, end
        self.prompt_length, self.renormalise = prompt_length, renormalise
        self._known: dict[tuple[int, ...], BeamState] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (N, V) with every token that leaves the tree at minus infinity."""
        prefixes = [tuple(row) for row in input_ids[:, self.prompt_length :].tolist()]
        state = BeamState.concatenate([self._state(p) for p in prefixes])
        self._known = {p: state.take(np.array([i])) for i, p in enumerate(prefixes)}
        children = self.index.allowed(state)
        mask = torch.full_like(scores, float("-inf"))
        beam = torch.from_numpy(children.beam).to(scores.device)
        mask[beam, torch.from_numpy(children.token).to(scores.device)] = 0.0
        over = torch.from_numpy(np.diff(children.ptr) == 0).to(scores.device)
        mask[over, self.end] = 0.0
        out = scores + mask
        return out.log_softmax(-1) if self.renormalise else out

    def _state(self, prefix: tuple[int, ...]) -> BeamState:
        if not prefix:
            return self.index.start(1)
        parent = self._known.get(prefix[:-1])
        if parent is not None and parent.segment[0] < self.index.segments:
            lo, hi = self.index.span(parent, np.array([prefix[-1]]))
            if lo[0] < hi[0]:
                return self.index.step(parent, np.array([prefix[-1]]), lo, hi)
        complete = np.full(1, self.index.segments)
        found = self.index.find(prefix) if parent is None else None
        return found or BeamState(complete, complete * 0, complete * 0, complete * 0)

    def generate_options(self) -> dict[str, Any]:
        """Options that make ``generate`` search for the most probable key.

        No length penalty and no early stop: neither is the default.
        """
        return {"length_penalty": 0.0, "early_stopping": "never", "do_sample": False}


def after_segments(separator: int, segments: int) -> StoppingCriteria:
    """Stopping criterion for models whose end token is the separator: stop after ``segments``."""
    from transformers import StoppingCriteria

    class AfterSegments(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: Tensor, scores: Tensor, **options: Any) -> Tensor:
            return (input_ids == separator).sum(1) >= segments

    return AfterSegments()
