"""The one place that does by hand what automatic optimization does by itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kexue_pl.tasks.base import BaseTask, Penalty

__all__ = ["ManualTask"]


class ManualTask(BaseTask):
    """Base of tasks that write gradients themselves; a subclass writes ``window_gradients``.

    Done here: accumulation over windows of batches (the last one of an epoch may be shorter), zeroing,
    one optimizer step a window, clipping of unscaled gradients, the schedule, the gradient scaler's
    scale and its skipped steps, and the count of skipped steps. Clipping and the guard against NaN act
    in ``on_before_optimizer_step``, when gradients are complete, unscaled and equal on all ranks. The
    runner sets ``accumulate_grad_batches`` and ``gradient_clip_val``, which the trainer would refuse.

    With plain summed losses it gives, bit for bit, what automatic optimization gives.
    """

    def __init__(
        self,
        *,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        penalty: Penalty | None = None,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler, penalty=penalty)
        self.automatic_optimization = False
        self.skipped_steps = 0
        self._window: list[dict[str, Tensor]] = []
        self._skipped = False

    def window_gradients(self, batches: list[dict[str, Tensor]]) -> None:
        """Fill ``.grad`` of all parameters for a window of batches; call :meth:`run_backward`."""
        raise NotImplementedError

    def after_step(self, skipped: bool) -> None:
        """Called after each optimizer step; ``skipped``: the gradient was not finite, nothing moved."""

    def run_backward(self, loss: Tensor, last: bool = True) -> None:
        """One backward pass; gradients are averaged over ranks in the last one of a window only."""
        wrapped = self.trainer.strategy.model
        if last or not isinstance(wrapped, nn.parallel.DistributedDataParallel):
            self.manual_backward(loss)
            return
        with wrapped.no_sync():
            self.manual_backward(loss)

    def loss_scale(self) -> float:
        """The scale of the gradient scaler; 1 where there is none."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is None:
            return 1.0
        # Scaling something, not asking for the scale: a fresh scaler begins to exist only then.
        return float(scaler.scale(torch.ones((), device=self.device)))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:  # type: ignore[override]
        """Collect a window of batches, then step."""
        self._window.append(batch)
        if len(self._window) < self.accumulate_grad_batches and not self.trainer.is_last_batch:
            return
        window, self._window = self._window, []
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        self.window_gradients(window)
        scale = self.loss_scale()
        optimizer.step()
        # The scaler lowers its scale when it left a step out.
        skipped = self._skipped or self.loss_scale() < scale
        self.skipped_steps += int(skipped)
        schedule: Any = self.lr_schedulers()
        if schedule is not None:
            schedule.step()
        self.after_step(skipped)

    def on_train_epoch_start(self) -> None:
        """A window never spans two epochs."""
        # Checkpoints here hold the state after a step, as resuming needs it; the advice is for others.
        warnings.filterwarnings("ignore", "Using ModelCheckpoint with manual optimization")
        self._window = []

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """See whether the guard took the gradients away, then clip."""
        held = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        self._skipped = not held
        if self.gradient_clip_val is not None and held:
            self.clip_gradients(
                optimizer,
                gradient_clip_val=self.gradient_clip_val,
                gradient_clip_algorithm="norm",
            )
