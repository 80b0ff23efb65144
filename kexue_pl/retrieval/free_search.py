"""Beam search without a base: the baseline that shows what the constraint is worth."""

from __future__ import annotations

import numpy as np
import torch

from kexue_pl.retrieval.beam_search import best_per_group, log_probabilities
from kexue_pl.retrieval.decoder import StepDecoder


@torch.no_grad()
def free_beam_search(
    decoder: StepDecoder,
    batch: int,
    *,
    separator: int,
    segments: int,
    beams: int = 3,
    max_steps: int = 64,
) -> list[list[tuple[float, tuple[int, ...]]]]:
    """Most probable token strings with ``segments`` separators, (score, tokens) best first.

    Beams that reach ``max_steps`` without an end are dropped, so a list may be empty.
    """
    done: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in range(batch)]
    question, score, ends = np.arange(batch), np.zeros(batch), np.zeros(batch, np.int64)
    tokens = np.zeros((batch, 0), np.int64)
    logits = decoder.start()
    for _ in range(max_steps):
        top = log_probabilities(logits).topk(min(beams, logits.shape[-1]), -1)
        total = (score[:, None] + top.values.double().cpu().numpy()).reshape(-1)
        beam = np.repeat(np.arange(len(question)), top.values.shape[1])
        keep = best_per_group(question[beam], total, beams)
        parent, token = beam[keep], top.indices.cpu().numpy().reshape(-1)[keep]
        question, score = question[parent], total[keep]
        ends = ends[parent] + (token == separator)
        tokens = np.concatenate([tokens[parent], token[:, None]], axis=1)
        for i in np.flatnonzero(ends == segments).tolist():
            done[int(question[i])].append((float(score[i]), tuple(tokens[i].tolist())))
        bar = np.array([max((s for s, _ in pool), default=-np.inf) for pool in done])
        live = (ends < segments) & (score > bar[question])
        parent, token = parent[live], token[live]
        question, score, ends, tokens = (x[live] for x in (question, score, ends, tokens))
        if len(question) == 0:
            break
        logits = decoder.step(question, parent, token)
    return [sorted(pool, reverse=True)[:beams] for pool in done]
