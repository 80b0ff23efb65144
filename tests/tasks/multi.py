"""Small multi-task runs through the Lightning trainer."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from kexue_pl.balancers import Balancer
from kexue_pl.data.digits import Digits
from kexue_pl.distributed import world_size
from kexue_pl.tasks.base import BaseTask
from kexue_pl.tasks.multitask import MultitaskTask


def digits(**settings: Any) -> Digits:
    """Few overlays."""
    sizes = {"train_rows": 192, "valid_rows": 40, "test_rows": 40, "batch_size": 16}
    data = Digits(**(sizes | settings))
    data.setup("fit")
    return data


def task(
    data: Any, rule: Balancer, kind: type[MultitaskTask] = MultitaskTask, **settings: Any
) -> MultitaskTask:
    """A small task with SGD and a schedule that moves at every step."""
    torch.manual_seed(0)
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    out = kind(
        data=data, balancer=rule, optimizer=optimizer, scheduler=decay, widths=[16, 8], **settings
    )
    out.total_steps = 60
    return out


def decay(
    optimizer: torch.optim.Optimizer, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear decay."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / total_steps)


def trainer(steps: int, **settings: Any) -> L.Trainer:
    """A silent trainer on the CPU; over two ranks when there are two."""
    ranks: dict[str, Any] = {}
    if world_size() > 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "1")
        ranks = {
            "devices": 2,
            "strategy": DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True),
        }
    return L.Trainer(
        **({"accelerator": "cpu", "devices": 1, "max_steps": steps} | ranks | settings),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


def fit(model: MultitaskTask, steps: int, **settings: Any) -> Tensor:
    """Train and return all parameters in one vector."""
    if not model.automatic_optimization:
        model.accumulate_grad_batches = settings.pop("accumulate_grad_batches", 1)
        model.gradient_clip_val = settings.pop("gradient_clip_val", None)
    trainer(steps, max_epochs=100, **settings).fit(model, datamodule=model.data)
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


class AutomaticSum(MultitaskTask):
    """The same model under automatic optimization of the plain sum."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.automatic_optimization = True

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return BaseTask.training_step(self, batch, batch_idx)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clipping is the trainer's."""
