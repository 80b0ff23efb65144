from __future__ import annotations

import pytest
import torch
from torch import nn

from kexue_pl.penalties.embedding import captured, row_norm, shifted, steepest


def test_steepest_rows_have_the_length_and_zero_rows_stay() -> None:
    g = torch.randn(4, 3, 2, dtype=torch.float64)
    g[2] = 0
    (rows,) = steepest([g], 0.7)
    assert torch.allclose(row_norm(rows).flatten(), torch.tensor([0.7, 0.7, 0.0, 0.7]).double())
    assert torch.allclose(rows[0] / 0.7, g[0] / g[0].norm())


def test_shift_follows_the_calls_in_order() -> None:
    layer = nn.Identity()
    with shifted(layer, [torch.ones(2, 1), 5 * torch.ones(2, 1)]):
        first, second = layer(torch.zeros(2, 1)), layer(torch.zeros(2, 1))
    assert first.tolist() == [[1], [1]]
    assert second.tolist() == [[5], [5]]
    assert layer(torch.zeros(2, 1)).abs().sum() == 0


@pytest.mark.parametrize("calls", [(2, 1), (3,)])
def test_a_loss_that_is_not_repeatable_is_refused(calls: tuple[int, ...]) -> None:
    layer = nn.Identity()
    with shifted(layer, [torch.ones(2, 1)]), pytest.raises(RuntimeError, match="repeatable"):
        for rows in calls[:1]:
            layer(torch.zeros(rows, 1))
        layer(torch.zeros(2, 1))


def test_integer_outputs_are_refused() -> None:
    layer = nn.Identity()
    with captured(layer), pytest.raises(TypeError, match="float tensor"):
        layer(torch.zeros(2, 1, dtype=torch.long))
