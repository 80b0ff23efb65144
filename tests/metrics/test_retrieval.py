"""Retrieval figures by hand and against scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import ndcg_score

from kexue_pl.metrics import Retrieval, ndcg_at, ranked, recall_at, reciprocal_rank_at


def test_by_hand():
    gains = ranked(torch.tensor([[0.9, 0.5, 0.7, 0.1]]), torch.tensor([[0, 1, 1, 1]]))
    assert gains.tolist() == [[0, 1, 1, 1]]
    assert recall_at(gains, 2).tolist() == pytest.approx([1 / 3])
    assert reciprocal_rank_at(gains, 4).tolist() == [0.5]
    assert reciprocal_rank_at(gains, 1).tolist() == [0.0]
    want = (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2)
    assert ndcg_at(gains, 3).tolist() == pytest.approx([want])


def test_ndcg_of_scikit_learn():
    g = torch.Generator().manual_seed(0)
    scores, gains = torch.rand(9, 20, generator=g), torch.randint(0, 4, (9, 20), generator=g)
    for k in (1, 5, 20):
        want = ndcg_score(gains.numpy(), scores.numpy(), k=k)
        assert ndcg_at(ranked(scores, gains), k).mean().item() == pytest.approx(want)


def test_constant_scores_earn_nothing():
    gains = ranked(torch.zeros(1, 5), torch.tensor([[1, 0, 0, 0, 1]]))
    assert gains.tolist() == [[0, 0, 0, 1, 1]]


def test_k_beyond_the_candidates():
    gains = ranked(torch.tensor([[0.1, 0.2]]), torch.tensor([[1, 0]]))
    assert recall_at(gains, 10).tolist() == [1]
    assert reciprocal_rank_at(gains, 10).tolist() == [0.5]


def test_metric_is_the_mean_over_queries():
    g = torch.Generator().manual_seed(0)
    scores = torch.rand(8, 6, generator=g)
    relevance = torch.eye(8, 6).add_(torch.eye(8, 6).flip(0)).clamp_max(1)
    metric = Retrieval(ks=(3, 1))
    metric.update(scores[:3], relevance[:3])
    metric.update(scores[3:], relevance[3:])
    gains = ranked(scores, relevance)
    got = {name: float(value) for name, value in metric.compute().items()}
    assert list(got) == ["recall@1", "recall@3", "mrr@3", "ndcg@3"]
    assert got["recall@3"] == pytest.approx(recall_at(gains, 3).mean().item())
    assert got["mrr@3"] == pytest.approx(reciprocal_rank_at(gains, 3).mean().item())
    assert got["ndcg@3"] == pytest.approx(ndcg_at(gains, 3).mean().item())


@pytest.mark.parametrize(
    ("scores", "relevance", "message"),
    [
        (torch.zeros(1, 2), torch.zeros(1, 2), "query 0 has no relevant candidate"),
        (torch.full((1, 2), math.nan), torch.ones(1, 2), "NaN score for query 0"),
        (torch.zeros(2), torch.zeros(2), "must be"),
    ],
)
def test_faults_are_named(scores, relevance, message):
    with pytest.raises(ValueError, match=message):
        ranked(scores, relevance)
    with pytest.raises(ValueError, match="at least 1"):
        Retrieval(ks=(0,))
