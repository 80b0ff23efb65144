"""Regression of the cosine on the label."""

from __future__ import annotations

import math

import pytest
import torch

from kexue_pl.losses import CosineMSE, PairOutputs


def test_cosine_mse_of_a_cross_encoder():
    outputs = PairOutputs(logits=torch.tensor([[0.0], [math.log(3)]]))
    assert float(CosineMSE()(outputs, torch.tensor([1, 1]))) == pytest.approx((0.25 + 0.0625) / 2)
    assert CosineMSE().score(outputs).tolist() == pytest.approx([0.5, 0.75])


def test_cosine_mse_names_labels_out_of_reach():
    with pytest.raises(ValueError, match=r"label 5 is beyond .*set loss.label_max=5"):
        CosineMSE()(PairOutputs(scores=torch.zeros(2)), torch.tensor([0, 5]))
