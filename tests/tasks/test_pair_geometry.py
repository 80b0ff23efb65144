from __future__ import annotations

import pytest
import torch

from kexue_pl.metrics import alignment, uniformity
from kexue_pl.tasks.pair_geometry import PairGeometry
from tests.support.ranks import run_ranks


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    left, right = torch.randn(11, 4, generator=g), torch.randn(11, 4, generator=g)
    return left, right, torch.arange(11) % 3 == 0


def on_rank(rank: int, world: int) -> dict[str, float]:
    left, right, truth = rows()
    geometry = PairGeometry(4)
    mine = torch.arange(11)[rank::world]
    geometry.add(mine, left[mine], right[mine], truth[mine])
    return geometry.join(torch.device("cpu"))


def test_equals_the_metrics_over_all_rows_and_starts_anew() -> None:
    left, right, truth = rows()
    found = on_rank(0, 1)
    assert found["alignment"] == pytest.approx(float(alignment(left[truth], right[truth])))
    assert found["uniformity"] == pytest.approx(float(uniformity(torch.cat([left, right]))))
    geometry = PairGeometry(4)
    assert geometry.join(torch.device("cpu")) == {}
    geometry.add(torch.arange(2), left[:2], right[:2], None)
    assert set(geometry.join(torch.device("cpu"))) == {"uniformity"}


@pytest.mark.slow
def test_two_ranks_equal_one() -> None:
    for found in run_ranks(on_rank, 2):
        assert found == pytest.approx(on_rank(0, 1))
