from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kexue_pl.callbacks import EGStepSize
from tests.support.ranks import run_ranks

BUSY: dict[str, Any] = {
    "gain": "coordinate",
    "scale_lr": 0.05,
    "gain_lr": 0.02,
    "plot": False,
}


class Net(L.LightningModule):
    """A small regression with automatic or manual optimization, and a schedule."""

    def __init__(self, kind: str = "adamw", *, manual: bool = False, schedule: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
        self.kind, self.automatic_optimization, self.schedule = kind, not manual, schedule

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, 0.5, "norm")
            optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        p = self.parameters()
        optimizer: torch.optim.Optimizer
        if self.kind == "sgd":
            optimizer = torch.optim.SGD(p, 0.05, momentum=0.9)
        else:
            optimizer = torch.optim.AdamW(p, 1e-2, fused=self.kind == "fused")
        if not self.schedule:
            return optimizer
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 24)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def fit(
    net: L.LightningModule,
    callbacks: list[L.Callback],
    *,
    epochs: int = 2,
    resume: Path | None = None,
    **settings: Any,
) -> L.Trainer:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(64, 8, generator=g)
    loader = DataLoader(TensorDataset(x, x[:, :1] * 2), batch_size=16)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **settings,
    )
    trainer.fit(net, loader, ckpt_path=resume, weights_only=True)
    return trainer


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["sgd", "adamw", "fused"])
@pytest.mark.parametrize("gain_on", ["gradient", "update"])
def test_rates_of_zero_train_as_without_the_callback(kind: str, gain_on: str) -> None:
    bare, still = Net(kind), Net(kind)
    clip = {"gradient_clip_val": None if kind == "fused" else 0.5}
    fit(bare, [], **clip)
    rates = {**BUSY, "scale_lr": 0.0, "gain_lr": 0.0}
    fit(still, [EGStepSize(gain_on=gain_on, **rates)], **clip)
    assert same(bare, still)


def test_manual_optimization_equals_automatic_and_both_adapt() -> None:
    bare, automatic, manual = Net(), Net(schedule=False), Net(manual=True, schedule=False)
    fit(bare, [], gradient_clip_val=0.5)
    fit(automatic, [EGStepSize(**BUSY)], gradient_clip_val=0.5)
    fit(manual, [EGStepSize(**BUSY)])
    assert same(automatic, manual)
    assert not same(bare, automatic)


class TwoOptimizers(Net):
    """Manual optimization with an optimizer a layer."""

    def __init__(self) -> None:
        super().__init__(manual=True, schedule=False)

    def training_step(self, batch: list[Tensor], index: int) -> None:  # type: ignore[override]
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward((self.net(batch[0]) - batch[1]).square().mean())
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self) -> Any:
        sgd = torch.optim.SGD(self.net[0].parameters(), 0.05, momentum=0.9)
        return [sgd, torch.optim.AdamW(self.net[2].parameters(), 1e-2)]


def test_several_optimizers_have_step_sizes_and_readings_of_their_own() -> None:
    eg = EGStepSize(**BUSY)
    trainer = fit(TwoOptimizers(), [eg], epochs=3, log_every_n_steps=1)
    scales = [o.param_groups[0]["eg_log_scale"] for o in trainer.optimizers]
    assert scales[0] != scales[1]
    assert [o.param_groups[0]["eg_step"] for o in trainer.optimizers] == [12, 12]
    assert {"eg/0/scale", "eg/1/scale", "eg/0/gain_q50", "eg/1/cos"} <= set(eg.history[-1])
    still = TwoOptimizers()
    fit(still, [EGStepSize(**{**BUSY, "scale_lr": 0.0, "gain_lr": 0.0})], epochs=3)
    bare = TwoOptimizers()
    fit(bare, [], epochs=3)
    assert same(bare, still)


class Seen(L.Callback):
    """What the optimizer holds at the end."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.group = dict(trainer.optimizers[0].param_groups[0])


def test_accumulation_makes_one_update_for_several_batches() -> None:
    seen = Seen()
    fit(Net(), [EGStepSize(**BUSY), seen], epochs=3, accumulate_grad_batches=2)
    assert seen.group["eg_step"] == 6
    assert "eg_log_scale" in seen.group


@pytest.mark.parametrize("kind", ["sgd", "adamw", "fused"])
def test_resume_is_bitwise(kind: str, tmp_path: Path) -> None:
    whole, first, second = Net(kind), Net(kind), Net(kind)
    eg = EGStepSize(horizon=24, **{**BUSY, "scale_lr": "auto", "gain_lr": "auto"})
    fit(whole, [eg], epochs=6, log_every_n_steps=4)
    part = EGStepSize(horizon=24, **{**BUSY, "scale_lr": "auto", "gain_lr": "auto"})
    fit(first, [part], log_every_n_steps=4).save_checkpoint(tmp_path / "a.ckpt")
    rest = EGStepSize(horizon=24, **{**BUSY, "scale_lr": "auto", "gain_lr": "auto"})
    fit(second, [rest], epochs=6, resume=tmp_path / "a.ckpt", log_every_n_steps=4)
    assert same(whole, second)
    assert rest.history == eg.history
    assert len(eg.history) == 6
    plain = Net(kind)
    with pytest.warns(UserWarning, match="EGStepSize"):
        fit(plain, [], epochs=6, resume=tmp_path / "a.ckpt")
    assert not same(whole, plain)


def test_bfloat16_mixed_precision_trains() -> None:
    net = Net()
    fit(net, [EGStepSize(**BUSY)], precision="bf16-mixed")
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_logs_readings_and_draws_the_scale(tmp_path: Path) -> None:
    eg = EGStepSize(**{**BUSY, "plot": True})
    trainer = fit(Net(), [eg], log_every_n_steps=2, default_root_dir=tmp_path)
    for name in ("scale", "effective_lr", "cos", "gain_q10", "gain_q50", "gain_q90"):
        assert f"eg/{name}" in trainer.callback_metrics
    assert [row["step"] for row in eg.history] == [2, 4, 6, 8]
    assert (tmp_path / "plots" / "eg_scale.png").stat().st_size > 5000
    assert trainer.optimizers[0].param_groups[0]["lr"] < 0.01  # the schedule's own value


def test_the_optimizer_is_free_after_the_fit_and_after_a_fault() -> None:
    class Broken(Net):
        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            if index == 2:
                raise KeyboardInterrupt
            return super().training_step(batch, index)

    eg, net = EGStepSize(**BUSY), Broken()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(net, [eg])
    assert eg._attached == []
    trainer = fit(Net(), [eg])
    assert getattr(trainer.optimizers[0], "_eg_step_size", None) is None


def test_the_trainer_s_steps_are_the_horizon_and_no_end_is_refused() -> None:
    fit(Net(), [EGStepSize(plot=False)])
    net = Net(schedule=False)
    with pytest.raises(ValueError, match=r"trainer\.max_steps"):
        fit(net, [EGStepSize(plot=False)], epochs=-1)


def test_a_module_that_counts_its_own_steps_is_believed() -> None:
    net, eg = Net(), EGStepSize(plot=False)
    net.total_steps = 3  # type: ignore[assignment]
    seen = Seen()
    fit(net, [eg, seen], log_every_n_steps=1)
    scales = [row["eg/scale"] for row in eg.history]
    assert seen.group["eg_step"] == 8
    assert scales[3:] == [scales[3]] * 5  # the rates are 0 from the third step on
    assert scales[2] != scales[0]


def _train_on_rank(rank: int, world: int) -> tuple[Tensor, list[float], Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    wrapped = nn.parallel.DistributedDataParallel(net)
    adamw = torch.optim.AdamW(net.parameters(), lr=1e-2)
    attached = EGStepSize(**BUSY).attach(adamw)
    g = torch.Generator().manual_seed(rank)
    for _ in range(30):
        x = torch.randn(8, 8, generator=g)
        adamw.zero_grad()
        (wrapped(x) - x[:, :1]).square().mean().backward()
        adamw.step()
    gains = torch.cat([adamw.state[p]["eg_log_gain"].flatten() for p in net.parameters()])
    return torch.cat([p.detach().flatten() for p in net.parameters()]), attached.log_scales(), gains


def test_two_ranks_stay_bitwise_equal() -> None:
    first, second = run_ranks(_train_on_rank, 2)
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1] != [0.0]
    assert torch.equal(first[2], second[2])


def test_the_strategy_of_deepspeed_is_refused() -> None:
    class DeepSpeedStrategy:
        pass

    trainer = SimpleNamespace(strategy=DeepSpeedStrategy(), optimizers=[])
    with pytest.raises(TypeError, match="accelerator=fsdp"):
        EGStepSize(**BUSY).on_fit_start(trainer, Net())  # type: ignore[arg-type]
