"""Conflict at any ratio of gradient norms, beside TorchJD at its defaults in the very same draws."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor

from kexue_pl import balancers as b
from tests.balancers.rules import cosine

pytest.importorskip("torchjd.aggregation")
GAPS = (1.0, 1e1, 1e2, 1e3, 1e4, 1e6, 1e8)
DRAWS = 60


def draws(gap: float) -> list[Tensor]:
    """Float32 gradients of four tasks in ten dimensions, norms spread over ``gap``."""
    out = []
    for seed in range(DRAWS):
        g = torch.Generator().manual_seed(seed)
        norms = torch.logspace(0, float(torch.log10(torch.tensor(gap))), 4)[:, None]
        rows = torch.randn(4, 10, generator=g)
        out.append(rows / rows.norm(dim=1, keepdim=True) * norms)
    return out


def rate(rule: b.Balancer, gap: float) -> float:
    """Share of draws in which the update's least cosine with a task is below -1e-3."""
    found = 0
    for rows in draws(gap):
        u = rule.combine(rows).double()
        found += not min(cosine(u, row.double()) for row in rows) > -1e-3
    return found / DRAWS


@pytest.mark.skipif(importlib.util.find_spec("quadprog") is None, reason="no QP solver for torchjd")
def test_ours_never_conflict_where_torchjd_at_its_defaults_does() -> None:
    pairs: dict[str, tuple[b.Balancer, b.Balancer]] = {
        "MGDA": (b.MGDA(), b.TorchJD("MGDA")),
        "UPGrad": (b.UPGrad(), b.TorchJD("UPGrad")),
        "DualProj": (b.DualProj(), b.TorchJD("DualProj")),
    }
    worst = {}
    for name, (ours, theirs) in pairs.items():
        assert [rate(ours, gap) for gap in GAPS] == [0.0] * len(GAPS)
        rates = [rate(theirs, gap) for gap in GAPS]
        print(name, [round(r, 2) for r in rates])
        assert rates[0] == 0
        worst[name] = max(rates)
    assert max(worst.values()) > 0.8 and min(worst.values()) > 0.3


def test_the_two_task_rule_does_not_conflict_either() -> None:
    for gap in GAPS:
        for rows in draws(gap):
            two = rows[[0, 3]]
            u = b.MGDA().combine(two).double()
            assert min(cosine(u, row.double()) for row in two) > -1e-3
