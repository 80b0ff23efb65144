"""A teacher's scores and margins."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.losses import Distillation, PairOutputs


def test_distillation_margins_by_hand():
    outputs = PairOutputs(
        left=torch.tensor([[1.0, 0.0]]),
        right=torch.tensor([[2.0, 0.0]]),
        negatives=torch.tensor([[[0.5, 0.0], [0.0, 9.0]]]),
    )
    loss = Distillation(target="margin", similarity="dot", scale=2.0)
    # 2 (2 - 0.5) = 3 and 2 (2 - 0) = 4 against 1 and 4.
    assert float(loss(outputs, torch.tensor([[1.0, 4.0]]))) == pytest.approx(2.0)
    with pytest.raises(ValueError, match=r"shape \(1,\), expected \(1, 2\)"):
        loss(outputs, torch.tensor([1.0]))
