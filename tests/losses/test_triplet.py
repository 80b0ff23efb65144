"""Triplets given and mined."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.losses import PairOutputs, Triplet


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_in_batch_negative_is_the_nearest_other(distance):
    u, v = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([1, 1, 0, 1, 0, 1])

    def d(a, b):
        return 1 - torch.cosine_similarity(a, b, 0) if distance == "cosine" else (a - b).norm()

    terms = []
    for i in labels.nonzero().flatten().tolist():
        nearest = min(d(u[i], v[j]) for j in range(6) if j != i)
        terms.append((d(u[i], v[i]) - nearest + 0.3).clamp_min(0))
    loss = Triplet(margin=0.3, distance=distance)(PairOutputs(left=u, right=v), labels)
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_given_negatives_by_hand():
    outputs = PairOutputs(
        left=torch.tensor([[0.0, 0.0], [0.0, 0.0]]),
        right=torch.tensor([[3.0, 4.0], [0.0, 1.0]]),
        negatives=torch.tensor([[[0.0, 4.0], [0.0, 7.0]], [[9.0, 0.0], [0.0, 9.0]]]),
    )
    # Row 1: 5 - 4 + 1 = 2 and 5 - 7 + 1 < 0, mean 1; row 2: 0.
    loss = Triplet(margin=1.0, distance="euclidean")
    assert float(loss(outputs)) == pytest.approx(0.5)
    assert float(loss(outputs, torch.tensor([1, 0]))) == pytest.approx(1.0)
    assert loss.score(outputs).tolist() == pytest.approx([-5, -1])


def test_unknown_distance():
    with pytest.raises(ValueError, match="choose one of cosine, euclidean"):
        Triplet(distance="manhattan")
