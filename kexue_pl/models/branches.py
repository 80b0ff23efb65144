"""Log-probabilities of many continuations of one prefix in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kexue_pl.models.copy_head import Places
from kexue_pl.models.unilm_model import UniLMModel

ROWS = 64  # prefixes at once


@torch.no_grad()
def branch_log_p(
    model: UniLMModel,
    sources: Sequence[Sequence[int]],
    prefixes: Sequence[Sequence[int]],
    branches: Sequence[Sequence[Sequence[int]]],
) -> list[NDArray[np.float64]]:
    """log p(branch | source, prefix) of all branches of each row.

    Branches stand side by side behind their prefix, each sees the prefix and itself, positions
    count from
    the prefix: as if each stood alone, at a fraction of the cost.

    Args:
        model: in evaluation mode.
        sources: N questions ``[CLS] Q [SEP]``.
        prefixes: N beginnings of a key, with the separator.
        branches: N lists of token strings, each with its separator.

    Returns:
        N arrays, one log-probability a branch.
    """
    out: list[NDArray[np.float64]] = []
    for start in range(0, len(sources), ROWS):
        part = slice(start, start + ROWS)
        out += _branch_log_p(model, sources[part], prefixes[part], branches[part])
    return out


def _branch_log_p(
    model: UniLMModel,
    sources: Sequence[Sequence[int]],
    prefixes: Sequence[Sequence[int]],
    branches: Sequence[Sequence[Sequence[int]]],
) -> list[NDArray[np.float64]]:
    device = model.embeddings.weight.device
    rows = [_Row(*parts) for parts in zip(sources, prefixes, branches, strict=True)]
    width = max(len(row.ids) for row in rows)
    grid = {
        name: torch.zeros(len(rows), width, dtype=torch.long)
        for name in ("ids", "segment", "position", "branch")
    }
    for i, row in enumerate(rows):
        for name, values in grid.items():
            values[i, : len(row.ids)] = torch.tensor(getattr(row, name))
        grid["branch"][i, len(row.ids) :] = -1
    ids, segment, position, branch = (x.to(device) for x in grid.values())
    states = model.states(ids, segment, _sees(segment, branch), position)
    longest = max(row.source for row in rows)
    sizes = torch.tensor([row.source for row in rows], device=device)
    mask = torch.arange(longest, device=device) < sizes[:, None]
    return _gather(model, rows, states, ids, mask)


class _Row:
    """One prefix with its branches side by side.

    ``branch`` is 0 on source and prefix, k + 1 on branch k, -1 on padding; the last token of a
    branch is predicted only, never read.
    """

    def __init__(
        self, source: Sequence[int], prefix: Sequence[int], branches: Sequence[Sequence[int]]
    ) -> None:
        self.source, context = len(source), len(source) + len(prefix)
        self.ids = [*source, *prefix]
        self.segment = [0] * len(source) + [1] * len(prefix)
        self.position = list(range(context))
        self.branch = [0] * context
        self.before: list[int] = []  # position whose state predicts each scored token
        self.token: list[int] = []
        self.sizes = [len(b) for b in branches]
        for k, tokens in enumerate(branches):
            start = len(self.ids)
            self.before += [context - 1, *range(start, start + len(tokens) - 1)]
            self.token += list(tokens)
            self.ids += tokens[:-1]
            self.segment += [1] * (len(tokens) - 1)
            self.position += range(context, context + len(tokens) - 1)
            self.branch += [k + 1] * (len(tokens) - 1)


def _sees(segment: Tensor, branch: Tensor) -> Tensor:
    order = torch.arange(segment.shape[1], device=segment.device)
    earlier = order[None, :] <= order[:, None]
    source = ((segment == 0) & (branch == 0))[:, None, :]
    shared = (branch == 0)[:, None, :] & earlier
    own = (branch[:, :, None] == branch[:, None, :]) & earlier & (segment == 1)[:, :, None]
    padding = (branch == -1)[:, :, None] & (order[None, :] == order[:, None])
    seen = source | (shared & (segment == 1)[:, :, None]) | own
    return torch.where((branch == -1)[:, :, None], padding, seen)


def _gather(
    model: UniLMModel, rows: list[_Row], states: Tensor, ids: Tensor, mask: Tensor
) -> list[NDArray[np.float64]]:
    most = max(len(row.before) for row in rows)
    before = torch.zeros(len(rows), most, dtype=torch.long)
    token = torch.zeros_like(before)
    for i, row in enumerate(rows):
        before[i, : len(row.before)] = torch.tensor(row.before)
        token[i, : len(row.token)] = torch.tensor(row.token)
    number = torch.arange(len(rows))[:, None]
    before, token = before.to(states.device), token.to(states.device)
    longest = mask.shape[1]
    places = Places(
        states[number, before],
        ids[number, before],
        model.embeddings.weight,
        states[:, :longest],
        ids[:, :longest],
        mask,
    )
    log_p = model.head.of_tokens(token, places)
    chosen = log_p.double().cpu().numpy()
    out = []
    for i, row in enumerate(rows):
        starts = np.cumsum([0, *row.sizes])[:-1]
        out.append(np.add.reduceat(chosen[i, : len(row.token)], starts))
    return out
