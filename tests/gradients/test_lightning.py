"""The library in a LightningModule of one's own, with automatic optimization: nothing else is needed."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kexue_pl.balancers import InverseGradNorm
from kexue_pl.gradients import fan_out

STEPS, LR, CLIP = 6, 0.1, 0.5


class Two(L.LightningModule):
    """Two tasks on one trunk; the training step is what the page shows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(5, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(2))
        self.rule = InverseGradNorm()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        fan = fan_out(self.trunk(x), self.rule, tasks=2)
        losses = [
            (h(v)[:, 0] - y[:, t]).square().mean()
            for t, (h, v) in enumerate(zip(self.heads, fan.views))
        ]
        return fan.join(losses)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR)


def rows() -> list[tuple[Tensor, Tensor]]:
    """48 rows whose second target counts a hundred times."""
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(48, 5, generator=g), torch.randn(48, 2, generator=g)
    return list(zip(x, y * torch.tensor([1.0, 100.0])))


def by_hand() -> Two:
    """The same in a plain loop, weights written out: 1 over the norm of each encoding gradient."""
    model = Two()
    optimizer = model.configure_optimizers()
    for x, y in DataLoader(rows(), batch_size=8):  # type: ignore[arg-type]
        optimizer.zero_grad()
        z = model.trunk(x)
        losses = [(h(z)[:, 0] - y[:, t]).square().mean() for t, h in enumerate(model.heads)]
        grads = [torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in losses]
        for head, loss in zip(model.heads, losses):
            found = torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
            for p, g in zip(head.parameters(), found):
                p.grad = g
        z.backward(
            sum((g / g.norm() for g in grads), torch.zeros_like(z)),
            inputs=[*model.trunk.parameters()],
        )
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    return model


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_automatic_optimization_equals_the_loop_written_out(precision: Any) -> None:
    model, want = Two(), by_hand()
    runner = L.Trainer(
        accelerator="cpu", devices=1, max_steps=STEPS, gradient_clip_val=CLIP, precision=precision,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    runner.fit(model, DataLoader(rows(), batch_size=8))  # type: ignore[arg-type]
    got, right, start = (
        nn.utils.parameters_to_vector(m.parameters()).detach() for m in (model, want, Two())
    )
    moved = float((right - start).norm())
    assert moved > 0.02
    assert float((got - right).norm()) < (1e-4 if precision == "32-true" else 5e-2) * moved
