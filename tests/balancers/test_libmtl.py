"""Agreement with LibMTL's own code where that is right: well-scaled draws."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kexue_pl import balancers as b
from tests.balancers.rules import draw, gram_of

if importlib.util.find_spec("LibMTL") is None:
    pytest.skip("LibMTL is not installed", allow_module_level=True)

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "bench"


def peer(name: str, rows: Tensor, losses: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """LibMTL's update and weights for given gradients: losses that are linear in one parameter."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        from multitask import libmtl_rule
    finally:
        sys.path.remove(str(SCRIPTS))
    shared = nn.Parameter(torch.zeros(rows.shape[1]))
    rule = libmtl_rule(name, [shared], len(rows))
    rule.init_param()
    values = rows.float() @ shared + losses.float()
    weights = rule.backward(values, **options)
    assert shared.grad is not None
    return shared.grad.double(), torch.as_tensor(weights)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("normalize", ["none", "gradient", "loss", "loss_gradient"])
def test_min_norm_of_two_tasks(seed: int, normalize: Any) -> None:
    """For two tasks its search is exact up to a clamp of the weights to 0.001 and 0.999; it adds the
    raw gradients up where it solved on normalised ones, so the weights are compared before that."""
    rows, losses = draw(seed, 2)
    options = {"none": "none", "gradient": "l2", "loss": "loss", "loss_gradient": "loss+"}
    _, weights = peer("MGDA", rows, losses, mgda_gn=options[normalize])
    ours = b.MGDA(normalize=normalize).weights(gram_of(rows), losses)
    simplex = ours / _scale(rows, losses, normalize)[:, 0]
    torch.testing.assert_close(weights.double(), simplex, atol=2e-3, rtol=0)


def _scale(rows: Tensor, losses: Tensor, normalize: str) -> Tensor:
    out = torch.ones(len(rows), 1, dtype=torch.float64)
    if "gradient" in normalize:
        out = out / rows.norm(dim=1, keepdim=True)
    if "loss" in normalize:
        out = out / losses.double()[:, None]
    return out


@pytest.mark.parametrize("seed", range(6))
def test_cagrad_of_three_tasks(seed: int) -> None:
    """Its solver is written for three tasks; it divides the update by 1 + c^2."""
    rows, losses = draw(seed, 3)
    update, _ = peer("CAGrad", rows, losses, calpha=0.5, rescale=0)
    torch.testing.assert_close(
        b.CAGrad(c=0.5).weights(gram_of(rows), losses) @ rows, update, atol=2e-3, rtol=2e-3
    )


@pytest.mark.parametrize("seed", range(6))
def test_impartial_gradients(seed: int) -> None:
    rows, losses = draw(seed, 4)
    update, _ = peer("IMTL", rows, losses)
    ours = b.IMTLG(published=True).weights(gram_of(rows), losses) @ rows
    torch.testing.assert_close(ours, update, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_pcgrad_of_two_tasks(seed: int) -> None:
    rows, losses = draw(seed, 2)
    rows[1] = rows[1] - 2 * (rows[1] @ rows[0]).clamp(min=0) / (rows[0] @ rows[0]) * rows[0]
    random.seed(0)
    update, _ = peer("PCGrad", rows, losses)
    torch.testing.assert_close(
        b.PCGrad().weights(gram_of(rows)) @ rows, update, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("seed", range(6))
def test_geometric_mean_and_where_its_product_overflows(seed: int) -> None:
    rows, losses = draw(seed)
    update, _ = peer("GLS", rows, losses)
    ours = b.Geometric().weights(None, losses) @ rows
    torch.testing.assert_close(ours, update, atol=1e-4, rtol=1e-4)
    broken, _ = peer("GLS", rows, losses * 1e12)
    assert not bool(broken.isfinite().all())
    assert bool(b.Geometric().weights(None, losses * 1e12).isfinite().all())
