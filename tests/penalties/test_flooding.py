from __future__ import annotations

import torch

from kexue_pl.penalties import Flooding


def test_descent_above_and_ascent_below() -> None:
    for start, slope in ((2.0, 1.0), (0.5, -1.0)):
        w = torch.tensor(start, requires_grad=True)
        total = Flooding(level=1.0).loss(lambda w=w: w * 1.0, parameters=[], embeddings=None)
        total.backward()
        assert w.grad == slope
        assert total.item() == abs(start - 1.0) + 1.0
