"""A task and its data that train in no time, for tests of the runner."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.data.base import DataModule
from kexue_pl.distributed import rank
from kexue_pl.tasks.base import BaseTask, Penalty


class TinyData(DataModule):
    """Random rows; row `nan_row` holds NaN, row `far_row` a target far from all others."""

    def __init__(
        self,
        *,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        rows: int = 160,
        nan_row: int = -1,
        far_row: int = -1,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.number, self.nan_row, self.far_row = rows, nan_row, far_row

    def setup(self, stage: str) -> None:
        x = torch.randn(self.number, 16, generator=torch.Generator().manual_seed(self.seed))
        if self.nan_row >= 0:
            x[self.nan_row] = float("nan")
        x += float(os.environ.get("KEXUE_PL_TEST_SHIFT", 0))
        rows = [{"x": row, "y": row.sum().tanh()} for row in x]
        if self.far_row >= 0:
            rows[self.far_row]["y"] = torch.tensor(1000.0)
        self.train_set, self.valid_set, self.test_set = rows, rows[:33], rows[33:50]


class TinyTask(BaseTask):
    """A small network with dropout; `overflow` makes the losses of one batch infinite on one rank."""

    def __init__(
        self,
        *,
        optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer],
        scheduler: Callable[..., Any] | None = None,
        penalty: Penalty | None = None,
        dropout: float = 0.3,
        overflow: int = -1,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler, penalty=penalty)
        self.overflow = overflow
        self.net = nn.Sequential(
            nn.Linear(16, 32), nn.Tanh(), nn.Dropout(dropout), nn.Linear(32, 1)
        )

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        loss = F.mse_loss(self.net(batch["x"])[:, 0], batch["y"])
        hit = self.training and self.trainer.global_step == self.overflow and rank() == 0
        return loss + torch.inf if hit else loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.tally("val/loss", self.loss(batch), len(batch["y"]))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.tally("test/loss", self.loss(batch), len(batch["y"]))


class Pause(L.Callback):
    """Sleeps after each batch, so that a test can hit a run in its middle."""

    def on_train_batch_end(self, *args: Any) -> None:
        time.sleep(float(os.environ.get("KEXUE_PL_TEST_PAUSE", 0)))


class WeightsOfRanks(L.Callback):
    """Writes a digest of the weights that each rank ended with, and whether they are finite."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        flat = torch.cat([p.detach().flatten() for p in pl_module.parameters()])
        sha = hashlib.sha256(flat.numpy().tobytes()).hexdigest()
        path = Path(trainer.default_root_dir) / f"weights_rank{rank()}.txt"
        path.write_text(f"{sha} {bool(flat.isfinite().all())}")
