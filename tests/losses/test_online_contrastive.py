"""Hard pairs of a batch."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.losses import online_contrastive_loss


def loss(distances, positive, margin=0.5):
    d = torch.tensor(distances, requires_grad=True)
    value = online_contrastive_loss(d, torch.tensor(positive, dtype=torch.bool), margin)
    return value.item(), torch.autograd.grad(value, d)[0].tolist()


def test_easy_pairs_cost_nothing():
    value, gradient = loss([0.1, 0.2, 0.4], [1, 1, 0])
    assert value == 0
    assert gradient == [0, 0, 0]


@pytest.mark.parametrize(
    ("distances", "positive", "want"),
    [
        ([0.6, 0.3], [1, 0], 0.36 + 0.04),
        ([0.2, 0.4], [1, 1], 0.16),  # no negative: beyond the mean 0.3
        ([0.2, 0.4], [0, 0], 0.09),  # no positive: below the mean 0.3
        ([0.2], [1], 0.0),
    ],
)
def test_by_hand(distances, positive, want):
    assert loss(distances, positive)[0] == pytest.approx(want)


def test_empty():
    assert loss([], []) == (0, [])
