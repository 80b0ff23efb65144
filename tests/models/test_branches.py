"""Branches side by side equal each continuation by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kexue_pl.attention import EntropyInvariant
from kexue_pl.models.branches import branch_log_p
from tests.models.test_unilm import SEP, VOCABULARY, small


@pytest.mark.parametrize("attention", [None, EntropyInvariant(base=8, floor=2)])
def test_branches_equal_single_continuations(attention: object) -> None:
    model = small(attention)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    word = lambda n: rng.integers(3, VOCABULARY, n).tolist()  # noqa: E731
    sources, prefixes = [word(5), word(3)], [[*word(2), SEP], [SEP]]
    branches = [[[*word(3), SEP], [SEP], [*word(1), SEP]], [[*word(2), SEP]]]
    got = branch_log_p(model, sources, prefixes, branches)
    for source, prefix, found, scores in zip(sources, prefixes, branches, got, strict=True):
        for branch, score in zip(found, scores, strict=True):
            ids = torch.tensor([[*source, *prefix, *branch]])
            segment = torch.zeros_like(ids)
            segment[0, len(source) :] = 1
            with torch.no_grad():
                log_p = model.target_log_p(ids, segment, torch.ones_like(ids))[0]
            want = float(log_p[len(prefix) :].sum())
            assert score == pytest.approx(want, abs=1e-5)
