from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kexue_pl.optim import EGStepSize
from tests.optim.problems import OPTIMIZERS, problem, train

STILL: dict[str, Any] = {"scale_lr": 0.0, "gain_lr": 0.0}
BUSY: dict[str, Any] = {"scale_lr": 0.05, "gain_lr": 0.02}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("gain_on", ["update", "gradient"])
def test_rates_of_zero_change_nothing_bitwise(name: str, gain_on: str) -> None:
    bare = train(OPTIMIZERS[name], None)
    for scale in ("global", "group", "tensor"):
        for signal in ("average", "update"):
            still = EGStepSize(
                scale=scale, gain="coordinate", gain_on=gain_on, signal=signal, **STILL
            )
            assert torch.equal(bare, train(OPTIMIZERS[name], still, closure=scale == "group"))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("scale", ["global", "tensor"])
def test_moves_and_is_the_same_with_a_closure_and_after_a_restart(name: str, scale: str) -> None:
    busy = EGStepSize(scale=scale, gain="coordinate", **BUSY)
    once = train(OPTIMIZERS[name], busy)
    assert not torch.equal(once, train(OPTIMIZERS[name], None))
    assert torch.equal(once, train(OPTIMIZERS[name], busy, closure=True))
    assert torch.equal(once, train(OPTIMIZERS[name], busy, restart_at=13))


@pytest.mark.parametrize("gain_on", ["update", "gradient"])
def test_bfloat16_parameters_keep_float32_gains_over_a_restart(gain_on: str) -> None:
    busy = EGStepSize(gain="coordinate", gain_on=gain_on, **BUSY)
    make, half = OPTIMIZERS["momentum"], torch.bfloat16
    once = train(make, busy, dtype=half)
    assert torch.isfinite(once).all()
    assert torch.equal(once, train(make, busy, dtype=half, restart_at=13))
    still = EGStepSize(gain="coordinate", gain_on=gain_on, **STILL)
    assert torch.equal(train(make, None, dtype=half), train(make, still, dtype=half))


def _gradients(steps: int) -> tuple[np.ndarray, list[Any]]:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(steps, 6, 6)), rng.normal(size=(steps, 6))
    return rng.normal(size=6), [lambda w, i=i: a[i].T @ (a[i] @ w - b[i]) for i in range(steps)]


@pytest.mark.parametrize("raw", [False, True])
def test_equals_the_funnelled_sgd_of_the_paper(raw: bool) -> None:
    start, gradients = _gradients(40)
    lr, mu, beta, gs, gp = 0.003, 0.9, 0.9, 0.02, 0.01
    theta = start.copy()
    p, s, m, u = np.ones(6), 1.0, np.zeros(6), np.zeros(6)
    for t, gradient in enumerate(gradients):
        g = gradient(theta)
        if t and raw:
            p, s = p * np.exp(np.clip(gp * m * g, -1, 1)), s * np.exp(np.clip(gs * (u @ g), -1, 1))
        elif t:
            p = p * np.exp(gp * np.sign(m) * np.sign(g))
            s = s * np.exp(gs * (u @ g) / np.sqrt((u @ u) * (g @ g)))
        m = beta * m + (1 - beta) * g
        u = mu * u + lr * p * g
        theta = theta - s * u
    w = nn.Parameter(torch.tensor(start))
    sgd = torch.optim.SGD([w], lr=lr, momentum=mu)
    rules = {"scale_rule": "raw", "gain_rule": "raw"} if raw else {}
    settings = EGStepSize(gain="coordinate", scale_lr=gs, gain_lr=gp, beta=beta, **rules)
    attached = settings.attach(sgd)
    for gradient in gradients:
        w.grad = torch.tensor(gradient(w.detach().numpy()))
        sgd.step()
    assert abs(math.exp(attached.log_scales()[0]) - s) <= 1e-12 * s
    assert np.abs(w.detach().numpy() - theta).max() <= 1e-12 * np.abs(theta).max()
    assert s != 1.0


def test_equals_the_article_s_simple_form() -> None:
    """nu_t = nu_{t-1} exp(gamma g_{t-1} g_t), theta_t = theta_{t-1} - alpha nu_t g_t."""
    start, gradients = _gradients(40)
    theta, nu, previous = start.copy(), np.ones(6), None
    for gradient in gradients:
        g = gradient(theta)
        if previous is not None:
            nu = nu * np.exp(np.clip(1e-3 * previous * g, -1, 1))
        theta, previous = theta - 0.003 * nu * g, g
    w = nn.Parameter(torch.tensor(start))
    sgd = torch.optim.SGD([w], lr=0.003)
    EGStepSize(scale="none", gain="coordinate", gain_lr=1e-3, gain_rule="raw", beta=0.0).attach(sgd)
    for gradient in gradients:
        w.grad = torch.tensor(gradient(w.detach().numpy()))
        sgd.step()
    assert np.abs(w.detach().numpy() - theta).max() <= 1e-12 * np.abs(theta).max()


def test_adamw_equals_its_equations_with_scale_and_gain_on_the_update() -> None:
    """theta + s (p d_data + d_decay), d by AdamW's own equations at the scheduled rate."""
    start, gradients = _gradients(40)
    lr, wd, b1, b2, gs, gp = 0.01, 0.1, 0.9, 0.999, 0.05, 0.02
    theta, m, v, log_p, log_s = start.copy(), np.zeros(6), np.zeros(6), np.zeros(6), 0.0
    for t, gradient in enumerate(gradients, 1):
        g = gradient(theta)
        if t > 1:
            log_s += gs * (m @ g) / np.sqrt((m @ m) * (g @ g))
            log_p = np.clip(log_p + gp * np.sign(m) * np.sign(g), *np.log([0.8, 1.25]))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        d = -lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
        theta = theta + np.exp(log_s) * (np.exp(log_p) * d - lr * wd * theta)
    w = nn.Parameter(torch.tensor(start))
    adamw = torch.optim.AdamW([w], lr=lr, weight_decay=wd)
    EGStepSize(gain="coordinate", scale_lr=gs, gain_lr=gp, gain_bounds=(0.8, 1.25)).attach(adamw)
    for gradient in gradients:
        w.grad = torch.tensor(gradient(w.detach().numpy()))
        adamw.step()
    assert np.abs(w.detach().numpy() - theta).max() <= 1e-12 * np.abs(theta).max()


@pytest.mark.parametrize("name", ["momentum", "adamw", "rmsprop", "adagrad", "nadam", "radam"])
def test_scaling_the_rate_equals_scaling_the_update(name: str) -> None:
    """Both ways to apply a scale agree where the step is linear in the rate."""

    class Hidden(type(OPTIMIZERS[name]([nn.Parameter(torch.ones(1))]))):  # type: ignore[misc]
        """Its name is unknown, so its update is scaled."""

    def hidden(parameters: Any) -> Any:
        optimizer = OPTIMIZERS[name](parameters)
        optimizer.__class__ = Hidden
        return optimizer

    busy = EGStepSize(scale_lr=0.05)
    by_lr = train(OPTIMIZERS[name], busy, dtype=torch.float64)
    by_update = train(hidden, busy, dtype=torch.float64)
    assert torch.allclose(by_lr, by_update, rtol=1e-9, atol=1e-12)
    assert not torch.equal(by_lr, train(OPTIMIZERS[name], None, dtype=torch.float64))


@pytest.mark.parametrize(
    ("cosine", "tolerance", "moved"),
    [(0.5, 0.2, 0.5), (-0.1, 0.2, 0.0), (-0.5, 0.2, -0.3), (-0.1, 0.0, -0.1), (-0.1, "auto", -0.1)],
)
def test_a_small_contradiction_is_tolerated(
    cosine: float, tolerance: float | str, moved: float
) -> None:
    w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    sgd = torch.optim.SGD([w], lr=1.0, momentum=0.9)
    attached = EGStepSize(scale_lr=0.1, tolerance=tolerance).attach(sgd)
    w.grad = torch.tensor([1.0, 0.0], dtype=torch.float64)
    sgd.step()
    w.grad = torch.tensor([cosine, math.sqrt(1 - cosine**2)], dtype=torch.float64)
    sgd.step()
    assert attached.log_scales()[0] == pytest.approx(0.1 * moved, abs=1e-12)
    assert attached.readings()["cos"] == pytest.approx(cosine)


def test_auto_tolerates_beside_an_automatic_rate_and_momentum_alone() -> None:
    assert EGStepSize().tolerated(momentum=True) == 0.12
    assert EGStepSize().tolerated(momentum=False) == 0.0
    assert EGStepSize(scale_lr=0.01).tolerated(momentum=True) == 0.0
    assert EGStepSize(tolerance=0.3).tolerated(momentum=False) == 0.3


def test_bounds_hold() -> None:
    w = nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([w], lr=1e-6, momentum=0.9)
    settings = EGStepSize(
        gain="coordinate", scale_lr=1.0, gain_lr=1.0, scale_bounds=(0.5, 4), gain_bounds=(0.5, 3)
    )
    attached = settings.attach(sgd)
    for _ in range(20):
        w.grad = torch.tensor([1.0, 1.0, 0.0])
        sgd.step()
    assert attached.readings()["scale"] == pytest.approx(4)
    gains = sgd.state[w]["eg_log_gain"].exp()
    assert torch.allclose(gains, torch.tensor([3.0, 3.0, 1.0]))


def test_a_schedule_and_its_logging_see_the_scheduled_rate() -> None:
    net, loss = problem()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(sgd, 5, 0.5)
    attached = EGStepSize(scale_lr=0.1).attach(sgd)
    for step in range(10):
        sgd.zero_grad()
        loss(step).backward()
        sgd.step()
        assert sgd.param_groups[0]["lr"] == 0.1 * 0.5 ** (step // 5)
        schedule.step()
    readings = attached.readings()
    assert readings["effective_lr"] == pytest.approx(readings["scale"] * 0.025)
    assert readings["scale"] != 1.0


def test_gradients_are_given_back() -> None:
    w = nn.Parameter(torch.ones(2))
    sgd = torch.optim.SGD([w], lr=0.1)
    EGStepSize(gain="coordinate", gain_on="gradient", **BUSY).attach(sgd)
    for _ in range(3):
        mine = torch.tensor([1.0, -2.0])
        w.grad = mine
        sgd.step()
        assert w.grad is mine
        assert mine.tolist() == [1.0, -2.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_gradient_teaches_nothing(bad: float) -> None:
    w = nn.Parameter(torch.ones(2))
    sgd = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    attached = EGStepSize(gain="coordinate", **BUSY).attach(sgd)
    for _ in range(3):
        w.grad = torch.ones(2)
        sgd.step()
    scale, gain = attached.log_scales(), sgd.state[w]["eg_log_gain"].clone()
    mean = sgd.state[w]["eg_mean"].clone()
    w.grad = torch.tensor([1.0, bad])
    sgd.step()
    assert attached.log_scales() == scale
    assert torch.equal(sgd.state[w]["eg_log_gain"], gain)
    assert torch.equal(sgd.state[w]["eg_mean"], mean)


def test_parameters_without_a_gradient_keep_their_state() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    adamw = torch.optim.AdamW([a, b], lr=0.1)
    EGStepSize(scale="tensor", gain="coordinate", **BUSY).attach(adamw)
    for step in range(6):
        a.grad = torch.ones(2)
        b.grad = torch.ones(2) if step in (2, 3) else None
        adamw.step()
    assert adamw.state[a]["eg_log_gain"][0] == pytest.approx(0.02 * 5)
    assert adamw.state[b]["eg_log_gain"][0] == pytest.approx(0.02)


def test_groups_and_tensors_have_scales_of_their_own() -> None:
    up, down = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    for scale in ("group", "tensor"):
        sgd = torch.optim.SGD([{"params": [up]}, {"params": [down]}], lr=1e-4, momentum=0.9)
        attached = EGStepSize(scale=scale, scale_lr=0.1).attach(sgd)
        for step in range(8):
            up.grad, down.grad = torch.ones(2), torch.ones(2) * (1.0 if step % 2 else -1.0)
            sgd.step()
        first, second = attached.log_scales()
        assert first == pytest.approx(0.7)
        assert second < 0
        assert attached.readings()["scale_max"] == pytest.approx(math.exp(0.7))


def test_maximize_climbs_and_agrees_with_descent_on_the_negative() -> None:
    for signal in ("average", "update"):
        for make in (torch.optim.SGD, torch.optim.AdamW):
            found = []
            for sign in (1.0, -1.0):
                w = nn.Parameter(torch.tensor([0.3, -0.2], dtype=torch.float64))
                optimizer = make([w], lr=0.01, maximize=sign < 0)
                EGStepSize(gain="coordinate", signal=signal, **BUSY).attach(optimizer)
                for _ in range(10):
                    optimizer.zero_grad()
                    (sign * (w - 1).square().sum()).backward()
                    optimizer.step()
                found.append(w.detach())
            assert torch.allclose(found[0], found[1], rtol=1e-12)


def test_a_step_that_raises_leaves_the_rate_to_be_restored() -> None:
    w = nn.Parameter(torch.ones(1))
    sgd = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    attached = EGStepSize(scale_lr=0.5).attach(sgd)
    for _ in range(3):
        w.grad = torch.ones(1)
        sgd.step()
    w.grad = torch.ones(1)
    attached._before(sgd, (sgd,), {})  # the step between the hooks never came back
    assert sgd.param_groups[0]["lr"] != 0.1
    attached.restore()
    assert sgd.param_groups[0]["lr"] == 0.1


def test_detach_ends_it_and_a_second_attachment_is_refused() -> None:
    w = nn.Parameter(torch.ones(1))
    sgd = torch.optim.SGD([w], lr=0.1)
    attached = EGStepSize(scale_lr=0.5).attach(sgd)
    with pytest.raises(ValueError, match="adapted already"):
        EGStepSize(scale_lr=0.5).attach(sgd)
    attached.detach()
    w.grad = torch.ones(1)
    sgd.step()
    assert "eg_step" not in sgd.param_groups[0]
    EGStepSize(scale_lr=0.5).attach(sgd)


def test_a_state_loads_without_it() -> None:
    w = nn.Parameter(torch.ones(2))
    adamw = torch.optim.AdamW([w], lr=0.1)
    EGStepSize(scale="tensor", gain="coordinate", **BUSY).attach(adamw)
    for _ in range(3):
        w.grad = torch.ones(2)
        adamw.step()
    plain = torch.optim.AdamW([w], lr=0.1)
    plain.load_state_dict(adamw.state_dict())
    w.grad = torch.ones(2)
    plain.step()


def test_lbfgs_and_settings_are_refused_with_the_remedy() -> None:
    w = nn.Parameter(torch.ones(1))
    with pytest.raises(TypeError, match=r"LBFGS evaluates .*optimizer=adamw"):
        EGStepSize().attach(torch.optim.LBFGS([w]), horizon=10)
    with pytest.raises(ValueError, match=r"horizon="):
        EGStepSize().attach(torch.optim.SGD([w]))
    with pytest.raises(ValueError, match=r"scale='layer' .*none, global, group, tensor"):
        EGStepSize(scale="layer")
    with pytest.raises(ValueError, match=r"scale_lr=-1"):
        EGStepSize(scale_lr=-1)
    with pytest.raises(ValueError, match=r"gain_bounds=\[2\.0, 3\.0\]"):
        EGStepSize(gain_bounds=(2, 3))
    with pytest.raises(ValueError, match=r"beta=1"):
        EGStepSize(beta=1.0)
    with pytest.raises(ValueError, match=r"tolerance='some'.*tolerance=auto"):
        EGStepSize(tolerance="some")


def test_an_optimizer_that_runs_its_closure_twice_is_refused() -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            closure()
            return super().step(closure)

    w = nn.Parameter(torch.ones(1))
    twice = Twice([w], lr=0.1)
    EGStepSize(scale_lr=0.1).attach(twice)
    w.grad = torch.ones(1)
    with pytest.raises(RuntimeError, match="twice"):
        twice.step(lambda: None)


@pytest.mark.parametrize("fused", [False, True])
def test_an_overflow_under_a_grad_scaler_makes_no_update(fused: bool) -> None:
    w = nn.Parameter(torch.ones(3))
    adamw = torch.optim.AdamW([w], lr=0.01, fused=fused)
    attached = EGStepSize(gain="coordinate", **BUSY).attach(adamw)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    for step in range(6):
        adamw.zero_grad()
        before = (
            attached.log_scales(),
            w.detach().clone(),
            adamw.param_groups[0].get("eg_step", 0),
        )
        factor = math.inf if step == 3 else 1.0
        scaler.scale((w * torch.tensor([1.0, 2.0, -1.0])).sum() * factor).backward()
        scaler.step(adamw)
        scaler.update()
        if step == 3:
            assert attached.log_scales() == before[0]
            assert torch.equal(w, before[1])
            assert adamw.param_groups[0]["eg_step"] == before[2]
    assert adamw.param_groups[0]["eg_step"] == 5
    assert attached.log_scales()[0] == pytest.approx(0.05 * 4)


@pytest.mark.parametrize("rule", ["raw", "cosine"])
def test_a_fused_optimizer_under_a_grad_scaler_averages_unscaled_gradients(rule: str) -> None:
    found = []
    for scale in (None, 1024.0):
        w = nn.Parameter(torch.ones(3))
        sgd = torch.optim.SGD([w], lr=0.01, fused=True)
        settings = EGStepSize(gain="coordinate", scale_rule="raw", gain_rule=rule, **BUSY)
        settings.attach(sgd)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        for _ in range(6):
            sgd.zero_grad()
            scaler.scale((w * w).sum()).backward()
            scaler.step(sgd)
            scaler.update()
        found.append((w.detach(), sgd.state[w]["eg_mean"], sgd.state[w]["eg_log_gain"]))
    for plain, scaled in zip(*found, strict=True):
        assert torch.allclose(plain, scaled, rtol=1e-5)


@pytest.mark.parametrize(
    ("momentum", "horizon", "steps"),
    [(0.9, 500, 10), (0, 500, 50), (0, 50, 10), (0, 9999, 100), (0, None, 10)],
)
def test_the_own_average_is_long_without_momentum(
    momentum: float, horizon: int | None, steps: int
) -> None:
    w = nn.Parameter(torch.ones(1))
    sgd = torch.optim.SGD([w], lr=0.1, momentum=momentum)
    EGStepSize(gain="coordinate", **BUSY).attach(sgd, horizon=horizon)
    for value in (1.0, 1.0, 0.0):
        w.grad = torch.tensor([value])
        sgd.step()
    beta = 1 - 1 / steps
    assert sgd.state[w]["eg_mean"].item() == pytest.approx((1 - beta**2) * beta)
