"""Metrics over two ranks with uneven shards equal one process; one rank may see nothing."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.metrics import (
    Alignment,
    BestThreshold,
    Calibration,
    Pearson,
    Retrieval,
    Spearman,
    Uniformity,
)
from tests.support.ranks import run_ranks

ROWS = 30
CUTS = (11, ROWS)


def figures(part: slice):
    g = torch.Generator().manual_seed(0)
    p = torch.rand(ROWS, generator=g)
    y = (torch.rand(ROWS, generator=g) < p).long()
    u, v = torch.randn(2, ROWS, 4, generator=g)
    relevance = torch.eye(ROWS)[:, torch.arange(ROWS).roll(3)]
    inputs = {
        Spearman: (p, y),
        Pearson: (p, y),
        BestThreshold: (p, y),
        Calibration: (p, y),
        Alignment: (u, v),
        Uniformity: (u,),
        Retrieval: (u @ v.T, relevance),
    }
    result = {}
    for make, columns in inputs.items():
        metric = make()
        if len(columns[0][part]):
            metric.update(*(column[part] for column in columns))
        else:
            metric._update_count = 1  # as after an epoch without rows; else it warns
        value = metric.compute()
        result[make.__name__] = value if isinstance(value, dict) else {"": value}
    return result


def on_rank(rank: int, world: int):
    return [figures(slice(0, cut) if rank == 0 else slice(cut, None)) for cut in CUTS]


@pytest.fixture(scope="module")
def ranks():
    return run_ranks(on_rank, 2)


@pytest.mark.parametrize("place", range(len(CUTS)))
@pytest.mark.parametrize("rank", [0, 1])
def test_two_ranks_equal_one_process(ranks, place, rank):
    want, got = figures(slice(None)), ranks[rank][place]
    for name, values in want.items():
        for key, value in values.items():
            torch.testing.assert_close(
                torch.as_tensor(got[name][key]), torch.as_tensor(value), rtol=1e-5, atol=1e-6
            )
