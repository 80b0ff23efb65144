from __future__ import annotations

import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from kexue_pl.optim import EGStepSize
from kexue_pl.optim.alignment import measure
from kexue_pl.optim.gains import finish_step, move_log_gain
from kexue_pl.optim.kernels import fits, fused_learn, kernels
from tests.optim.problems import OPTIMIZERS, train

BUSY: dict[str, Any] = {"gain": "coordinate", "scale_lr": 0.05, "gain_lr": 0.02}


def _numbers(n: int = 20_011) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, generator=g) for _ in range(4))


@pytest.fixture(autouse=True)
def _numba() -> None:
    pytest.importorskip("numba")


def test_sums_are_nearer_to_float64_than_1e_6() -> None:
    g, d, *_ = _numbers()
    d = d + 0.3 * g
    (fused,), (plain,) = measure([(g, d)], fused=True), measure([(g.double(), d.double())])
    assert fused == pytest.approx(plain, rel=1e-6)
    g[7] = math.nan
    assert not measure([(g, d)], fused=True)[0].finite
    g[7] = math.inf
    assert not measure([(g, d)], fused=True)[0].finite


def test_gains_move_bitwise_as_without_and_not_at_all_by_a_nan() -> None:
    g, d, k, _ = _numbers()
    g[:3], d[3:6] = 0, 0
    g[6:9] = d[6:9] = 1e-23  # whose product underflows
    (sums,) = measure([(g, d)])
    found = []
    for fused in (False, True):
        found.append(k.clone())
        move = {"rate": 0.1, "rule": "sign", "sums": sums, "bounds": (-1.0, 1.5)}
        move_log_gain(found[-1], g, d, **move, fused=fused)
    assert torch.equal(*found)
    assert not torch.equal(found[0], k)
    at_once = k.clone()
    fused_learn([(at_once, g, d)], rates=[0.1], low=-1.0, high=1.5)
    assert torch.equal(at_once, found[0])
    g[-1] = math.nan
    fused_learn([(at_once, g, d)], rates=[0.1], low=-1.0, high=1.5)
    assert torch.equal(at_once, found[0])


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("log_scale", [0.0, -0.7])
def test_steps_end_where_they_end_without(decay: float, log_scale: float) -> None:
    old, move, k, _ = _numbers()
    new = old + 1e-2 * move
    plain, fused, delta = new.double(), new.clone(), -old
    finish_step(plain, -old.double(), log_gain=k.double(), log_scale=log_scale, decay=decay)
    finish_step(fused, delta, log_gain=k, log_scale=log_scale, decay=decay, fused=True)
    # The rounding of the old parameter is multiplied by the gain, in float32 by any method.
    tolerance = 2e-7 * old.abs().maximum(new.abs()) * (1 + (k + log_scale).exp())
    assert ((fused - plain).abs() <= tolerance).all()
    assert torch.allclose(delta, new - (1 - decay) * old, rtol=1e-6, atol=1e-6)
    kept = -old
    finish_step(
        new, kept, log_gain=k, log_scale=log_scale, decay=decay, fused=True, keep_delta=False
    )
    assert torch.equal(new, fused)
    assert torch.equal(kept, -old)


@pytest.mark.parametrize("exponent", [-100.0, -20.0, -1e-7, 0.0, 1e-7, 0.34657, 5.0, 80.0])
def test_the_exponential_is_exact_to_float32(exponent: float) -> None:
    p = torch.zeros(9)
    finish_step(p, torch.ones(9), log_gain=torch.full((9,), exponent), log_scale=0.0, fused=True)
    expected = math.expm1(float(torch.tensor(exponent)))
    assert p.tolist() == pytest.approx([expected] * 9, rel=3e-7)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "adamw fused", "rprop"])
@pytest.mark.parametrize("scale", ["global", "tensor"])
def test_training_is_as_without_the_kernels(name: str, scale: str) -> None:
    plain = train(OPTIMIZERS[name], EGStepSize(scale=scale, **BUSY), steps=20)
    fused = EGStepSize(scale=scale, fused=True, **BUSY)
    once = train(OPTIMIZERS[name], fused, steps=20)
    assert torch.allclose(plain, once, rtol=1e-4, atol=1e-5)
    assert not torch.equal(once, train(OPTIMIZERS[name], None, steps=20))
    assert torch.equal(once, train(OPTIMIZERS[name], fused, steps=20, restart_at=13))


def test_gains_on_adam_need_no_copy_of_the_parameters() -> None:
    torch.manual_seed(0)
    start, steps = torch.randn(999), torch.randn(6, 999)
    for amsgrad, copies in ((False, 0), (True, 1)):
        found = []
        for fused in (False, True):
            w = torch.nn.Parameter(start.clone())
            adamw = torch.optim.AdamW([w], lr=0.1, weight_decay=0.3, amsgrad=amsgrad)
            attached = EGStepSize(fused=fused, **{**BUSY, "gain_lr": 0.3}).attach(adamw)
            for gradient in steps:
                w.grad = gradient.clone()
                adamw.step()
            found.append(w.detach())
        assert torch.allclose(*found, rtol=1e-5, atol=1e-6)
        assert len(attached._scaler._scratch) == copies
        assert (adamw.state[w]["eg_log_gain"].abs() > 0.5).any()


@pytest.mark.parametrize("name", ["momentum", "adamw", "rprop"])
@pytest.mark.parametrize("gain_on", ["update", "gradient"])
def test_rates_of_zero_change_nothing_bitwise(name: str, gain_on: str) -> None:
    rates = {**BUSY, "scale_lr": 0.0, "gain_lr": 0.0}
    still = EGStepSize(scale="tensor", gain_on=gain_on, fused=True, **rates)
    assert torch.equal(train(OPTIMIZERS[name], None), train(OPTIMIZERS[name], still))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_take_the_passes_of_torch(dtype: torch.dtype) -> None:
    found = [
        train(OPTIMIZERS["adamw"], EGStepSize(fused=fused, **BUSY), dtype=dtype)
        for fused in (False, True)
    ]
    assert torch.equal(*found)


def test_what_the_kernels_do_not_know() -> None:
    assert not fits(torch.zeros(3, 2).t())
    assert not fits(torch.zeros(3, device="meta"))
    assert not fits(torch.zeros(3), torch.zeros(3).half())


def test_without_numba_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    kernels.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"kexue_pl\[fast\].*fused=false"):
        EGStepSize(fused=True)
    EGStepSize()
    monkeypatch.undo()
    kernels.cache_clear()
