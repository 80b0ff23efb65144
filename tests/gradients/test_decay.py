"""Weight decay as an auxiliary task."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kexue_pl.balancers import Primary
from kexue_pl.gradients import decay_as_task


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_primary_rule_with_the_weights_as_auxiliary_gradient(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    weights = [
        nn.Parameter(torch.randn(3, 4, generator=g)),
        nn.Parameter(torch.randn(5, generator=g)),
    ]
    for w in weights:
        w.grad = torch.randn(w.shape, generator=g)
    rows = torch.stack(
        [
            torch.cat([w.grad.flatten() for w in weights]),
            torch.cat([w.detach().flatten() for w in weights]),
        ]
    ).double()
    want = Primary().weights(rows @ rows.T) @ rows
    factor = decay_as_task(weights)
    got = torch.cat([w.grad.flatten() for w in weights])
    torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=1e-6)
    assert (factor > 0) == (float(rows[0] @ rows[1]) < 0)
    assert float(got.double() @ rows[1]) > -1e-5


def test_nothing_to_do_is_nothing_done() -> None:
    w = nn.Parameter(torch.ones(2))
    assert decay_as_task([w]) == 0
    w.grad = torch.tensor([float("nan"), -1.0])
    assert decay_as_task([w]) == 0
    zero = nn.Parameter(torch.zeros(2))
    zero.grad = torch.ones(2)
    assert decay_as_task([zero]) == 0 and zero.grad.tolist() == [1.0, 1.0]
