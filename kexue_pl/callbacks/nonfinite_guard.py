"""Skips steps whose gradient is not finite, on all ranks alike, and stops when they go on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from kexue_pl.callbacks.rows import StepWatcher, note_rows
from kexue_pl.distributed import all_reduce_sum, world_size
from kexue_pl.run.errors import RunError

__all__ = ["NonfiniteError", "NonfiniteGuard", "all_finite"]


class NonfiniteError(RunError):
    """Too many steps in a row had a loss or a gradient that is NaN or infinite."""


def all_finite(tensors: list[Tensor]) -> bool:
    """True if every entry of every tensor is finite on every rank."""
    if any(type(tensor) is not Tensor for tensor in tensors):
        # Of parameters split over ranks each rank looks at its own part.
        tensors = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    if not tensors:
        return bool(all_reduce_sum(torch.zeros(1)) == 0)
    if tensors[0].device.type == "cpu":
        # On the CPU a sum of squares costs a tenth of a largest value. It is not finite if an entry is
        # not, but may also overflow, so that only largest values tell for sure.
        norms = torch.stack(torch._foreach_norm(tensors, 2))
        if math.isfinite(norms.sum().item()):
            return world_size() == 1 or bool(all_reduce_sum(torch.zeros(1)) == 0)
    filled = [tensor for tensor in tensors if tensor.numel()]
    bad = torch.zeros(1, device=tensors[0].device)
    if filled:
        norms = torch.stack(torch._foreach_norm(filled, float("inf")))
        bad += (~torch.isfinite(norms)).any()
    return bool(all_reduce_sum(bad) == 0)


class NonfiniteGuard(StepWatcher):
    """Leaves a step out, on all ranks, when any rank's loss or gradient holds NaN or infinity.

    The gradients are taken away, so the optimizer and its state stay as they were. Skipped steps are
    counted (`train/skipped`); the rows of the batch are appended to nonfinite.jsonl.

    Args:
        limit: after so many skipped steps in a row all ranks save last.ckpt and raise NonfiniteError.
    """

    def __init__(self, limit: int = 5) -> None:
        super().__init__()
        if limit < 1:
            raise ValueError(f"limit={limit}: must be at least 1")
        self.limit = limit
        self.skipped = 0
        self._in_a_row = 0
        self._rows: list[int] = []
        self._stop = False

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradients away where they are not finite."""
        losses = self.parts()
        if trainer.precision == "16-mixed":
            return  # the gradient scaler finds infinities itself and skips
        grads = [
            grad
            for group in optimizer.param_groups
            for p in group["params"]
            if (grad := p.grad) is not None
        ]
        if all_finite(grads + losses):
            self._in_a_row = 0
            return
        held = [p for group in optimizer.param_groups for p in group["params"]]
        for parameter in held:
            parameter.grad = None
        self.skipped += 1
        self._in_a_row += 1
        pl_module.log("train/skipped", float(self.skipped), batch_size=1)
        self._rows = note_rows(trainer, self._batch, "nonfinite.jsonl")
        self._stop = self._in_a_row >= self.limit

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Between two steps, where a state can be saved: stop after too many."""
        if not self._stop:
            return
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
        raise NonfiniteError(
            f"step {trainer.global_step}: the loss or its gradient was NaN or infinite {self._in_a_row} "
            f"times in a row, last in rows {self._rows}; lower optimizer.lr, or look at nonfinite.jsonl "
            f"in {trainer.default_root_dir}; resume=auto goes on behind these rows"
        )

    def state_dict(self) -> dict[str, Any]:
        """The count of skipped steps."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count."""
        self.skipped = state_dict["skipped"]
        self._in_a_row = state_dict["in_a_row"]
