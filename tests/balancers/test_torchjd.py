"""Agreement with TorchJD where it is right: well-scaled draws."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from kexue_pl import balancers as b
from tests.balancers.rules import cosine, draw, gram_of

peer = pytest.importorskip("torchjd.aggregation")
QP = pytest.mark.skipif(
    importlib.util.find_spec("quadprog") is None, reason="torchjd's QP solver is absent"
)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (b.Aligned(), "AlignedMTL", {}),
        (b.IMTLG(published=True), "IMTLG", {}),
        (b.ConFIG(), "ConFIG", {}),
        (b.FairGrad(alpha=2.0), "FairGrad", {"alpha": 2.0}),
        (b.MGDA(), "MGDA", {"epsilon": 1e-7, "max_iters": 20000}),
        pytest.param(b.UPGrad(), "UPGrad", {}, marks=QP),
        pytest.param(b.DualProj(), "DualProj", {}, marks=QP),
    ],
)
def test_same_update_on_well_scaled_draws(
    ours: b.Balancer, theirs: str, options: dict, seed: int
) -> None:
    rows, _ = draw(seed)
    want = b.TorchJD(theirs, options).combine(rows)
    got = ours.combine(rows)
    assert cosine(got, want) > 1 - 1e-4
    assert float(got.norm() / want.norm()) == pytest.approx(1, abs=1e-2)


def test_gradvac_and_pcgrad_agree_for_two_tasks() -> None:
    for seed in range(10):
        rows, _ = draw(seed, 2)
        torch.testing.assert_close(b.PCGrad().combine(rows), b.TorchJD("PCGrad").combine(rows))


@QP
@pytest.mark.parametrize("gap", [1e2, 1e4])
def test_ours_does_not_conflict_where_the_default_regulariser_does(gap: float) -> None:
    def conflicts(rule: b.Balancer) -> float:
        found = 0
        for seed in range(40):
            g = torch.Generator().manual_seed(seed)
            norms = torch.logspace(0, torch.log10(torch.tensor(gap)).item(), 4)[:, None]
            rows = torch.randn(4, 10, generator=g) * norms
            u = rule.combine(rows)
            found += min(cosine(u, r) for r in rows) < -1e-3
        return found / 40

    assert conflicts(b.UPGrad()) == 0
    assert conflicts(b.TorchJD("UPGrad")) > 0.1


def test_aggregators_that_need_the_matrix_say_so() -> None:
    rule = b.TorchJD("TrimmedMean", {"trim_number": 1})
    assert rule.needs_matrix
    rows = torch.tensor([[1.0], [2.0], [9.0]])
    assert rule.combine(rows).tolist() == [2.0]
    with pytest.raises(ValueError, match="level=parameters"):
        rule.weights(gram_of(rows))
