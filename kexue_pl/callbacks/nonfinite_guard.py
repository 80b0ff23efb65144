"""Skips steps whose gradient is not finite, on all ranks alike, and stops when they go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from kexue_pl.distributed import all_gather_objects, all_reduce_sum, rank
from kexue_pl.run.errors import RunError

__all__ = ["NonfiniteError", "NonfiniteGuard", "all_finite"]


class NonfiniteError(RunError):
    """Too many steps in a row had a loss or a gradient that is NaN or infinite."""


def all_finite(tensors: list[Tensor]) -> bool:
    """True if every entry of every tensor is finite on every rank."""
    if not tensors:
        return bool(all_reduce_sum(torch.zeros(1)) == 0)
    if tensors[0].device.type == "cpu":
        # On the CPU a sum costs a fiftieth of a largest value. It is not finite if an entry is not,
        # but may also overflow, so that only largest values tell for sure.
        sums = torch.stack([tensor.sum(dtype=torch.float64) for tensor in tensors])
        if bool(torch.isfinite(sums).all()):
            return bool(all_reduce_sum(torch.zeros(1)) == 0)
    norms = torch.stack(torch._foreach_norm(tensors, float("inf")))
    bad = (~torch.isfinite(norms)).any().to(torch.float32).reshape(1)
    return bool(all_reduce_sum(bad) == 0)


class NonfiniteGuard(L.Callback):
    """Leaves a step out, on all ranks, when any rank's gradient holds NaN or infinity.

    The gradients are taken away, so the optimizer and its state stay as they were. Skipped steps are
    counted (`train/skipped`); the rows of the batch are appended to nonfinite.jsonl.

    Args:
        limit: so many skipped steps in a row raise NonfiniteError.
    """

    def __init__(self, limit: int = 5) -> None:
        if limit < 1:
            raise ValueError(f"limit={limit}: must be at least 1")
        self.limit = limit
        self.skipped = 0
        self._in_a_row = 0
        self._batch: Any = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch, to name it."""
        self._batch = batch

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradients away where they are not finite."""
        if trainer.precision == "16-mixed":
            return  # the gradient scaler finds infinities itself and skips
        held = [
            p for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        if all_finite([p.grad for p in held]):
            self._in_a_row = 0
            return
        for parameter in held:
            parameter.grad = None
        self.skipped += 1
        self._in_a_row += 1
        pl_module.log("train/skipped", float(self.skipped), batch_size=1)
        rows = self._write(trainer)
        if self._in_a_row >= self.limit:
            raise NonfiniteError(
                f"step {trainer.global_step}: the gradient was NaN or infinite {self._in_a_row} times in a "
                f"row, last in rows {rows}; lower optimizer.lr, or look at nonfinite.jsonl in "
                f"{trainer.default_root_dir}"
            )

    def _write(self, trainer: L.Trainer) -> list[int]:
        numbers = self._batch.get("row_id") if isinstance(self._batch, dict) else None
        own = [int(n) for n in numbers.tolist()] if isinstance(numbers, Tensor) else []
        rows = [n for part in all_gather_objects(own) for n in part]
        if rank() == 0:
            line = {"step": trainer.global_step, "epoch": trainer.current_epoch, "rows": rows}
            with open(Path(trainer.default_root_dir) / "nonfinite.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
        return rows[:8]

    def state_dict(self) -> dict[str, Any]:
        """The count of skipped steps."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count."""
        self.skipped = state_dict["skipped"]
        self._in_a_row = state_dict["in_a_row"]
