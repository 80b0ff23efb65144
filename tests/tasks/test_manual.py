"""Manual optimization does what automatic optimization does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from kexue_pl import balancers as b
from kexue_pl.callbacks.nonfinite_guard import NonfiniteGuard
from tests.tasks.multi import AutomaticSum, digits, fit, task


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}])
def test_equal_weights_are_bitwise_automatic_optimization_of_the_sum(
    settings: dict[str, Any],
) -> None:
    by_hand = fit(task(digits(), b.Equal()), 50, **settings)
    by_itself = fit(task(digits(), b.Equal(), AutomaticSum), 50, **settings)
    assert torch.equal(by_hand, by_itself)
    assert not torch.equal(by_hand, fit(task(digits(), b.Equal()), 49, **settings))


def test_clipping_is_not_ignored() -> None:
    plain = fit(task(digits(), b.MGDA()), 5)
    clipped = fit(task(digits(), b.MGDA()), 5, gradient_clip_val=1e-3)
    start = torch.cat([p.detach().flatten() for p in task(digits(), b.MGDA()).parameters()])
    assert float((clipped - start).norm()) < 0.1 * float((plain - start).norm())


@pytest.mark.parametrize("level", ["encoding", "parameters"])
@pytest.mark.parametrize("rule", [b.MGDA, b.InverseGradNorm, b.Geometric])
def test_accumulation_equals_the_big_batch(level: Any, rule: type[b.Balancer]) -> None:
    """The window of four quarters holds the rows of the big batch."""

    def run(size: int, parts: int) -> torch.Tensor:
        data = digits(batch_size=size)
        batches = data.train_batches(0)
        whole = digits(batch_size=16).train_batches(0)
        pieces = [part for batch in whole for part in (batch[i::parts] for i in range(parts))]
        data.train_batches = lambda epoch: pieces if parts > 1 else batches  # type: ignore[method-assign]
        return fit(task(data, rule(), level=level), 10, accumulate_grad_batches=parts)

    torch.testing.assert_close(run(4, 4), run(16, 1), atol=2e-5, rtol=1e-4)


class _ScaledFloat32(MixedPrecision):
    """A gradient scaler without lower precision: isolates the scale."""

    def forward_context(self) -> Any:
        return contextlib.nullcontext()


@pytest.mark.parametrize("level", ["encoding", "parameters"])
@pytest.mark.parametrize("rule", [b.MGDA, b.InverseGradNorm, b.Equal])
def test_a_gradient_scaler_changes_nothing(level: Any, rule: type[b.Balancer]) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plugin = _ScaledFloat32("16-mixed", "cpu", scaler)
    got = fit(task(digits(), rule(), level=level), 10, gradient_clip_val=1.0, plugins=[plugin])
    want = fit(task(digits(), rule(), level=level), 10, gradient_clip_val=1.0)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("level", ["encoding", "parameters"])
@pytest.mark.parametrize("rule", [b.MGDA, b.InverseGradNorm, b.Equal])
def test_bfloat16_follows_float32(level: Any, rule: type[b.Balancer]) -> None:
    def run(**settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
        model = task(digits(), rule(), level=level, log_every=1)
        moved = fit(model, 10, gradient_clip_val=1.0, **settings) - start
        weights = [step.weights for _, step in model.history]
        return moved, torch.stack([w for w in weights if w is not None])

    start = torch.cat(
        [p.detach().flatten() for p in task(digits(), rule(), level=level).parameters()]
    )
    (half, half_weights), (full, full_weights) = run(precision="bf16-mixed"), run()
    assert not torch.equal(half, full)
    assert float((half - full).norm()) < 0.1 * float(full.norm())
    assert half_weights.dtype == torch.float64
    torch.testing.assert_close(half_weights, full_weights, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("rule", [b.GradNorm, b.Equal, b.Uncertainty])
def test_a_step_that_is_not_finite_is_skipped_and_the_rule_forgets_it(
    rule: type[b.Balancer], tmp_path: Path
) -> None:
    data = digits()
    assert data.train_set is not None
    for row in data.train_batches(0)[2]:
        data.train_set[row]["x"] = torch.full((144,), float("nan"))  # type: ignore[index]
    model = task(data, rule())
    states: list[dict[str, torch.Tensor]] = []
    done = model.after_step

    def after(skipped: bool) -> None:
        done(skipped)
        states.append(model.balancer.state_dict())

    model.after_step = after  # type: ignore[method-assign]
    weights = fit(model, 5, callbacks=[NonfiniteGuard()], default_root_dir=tmp_path)
    assert model.skipped_steps == 1
    assert bool(weights.isfinite().all())
    assert all(torch.equal(states[1][k], states[2][k]) for k in states[1])


def test_schedule_moves_once_a_step() -> None:
    model = task(digits(), b.MGDA())
    fit(model, 6, accumulate_grad_batches=2)
    assert model.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * (1 - 6 / 60))
