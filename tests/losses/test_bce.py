"""Cross-entropy of one logit."""

from __future__ import annotations

import math

import pytest
import torch

from kexue_pl.losses import BCE, PairOutputs


def test_bce_by_hand_and_soft_labels():
    outputs = PairOutputs(logits=torch.tensor([[math.log(3)]]))  # probability 3/4
    loss = BCE()
    assert float(loss(outputs, torch.tensor([1]))) == pytest.approx(math.log(4 / 3))
    half = -(math.log(0.75) + math.log(0.25)) / 2
    assert float(loss(outputs, torch.tensor([0.5]))) == pytest.approx(half)
    assert loss.score(outputs).tolist() == pytest.approx([math.log(3)])
