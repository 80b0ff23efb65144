"""What a callback must remember to judge a step and to name the rows that made trouble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from kexue_pl.distributed import all_gather_objects, rank

__all__ = ["StepWatcher", "note_rows"]


class StepWatcher(L.Callback):
    """Remembers the batch and the losses of the step that is being made."""

    def __init__(self) -> None:
        self._batch: Any = None
        self._parts: list[Tensor] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch, to name it."""
        self._batch = batch

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        """Remember the loss; an accumulation window has several."""
        self._parts.append(loss.detach())

    def parts(self) -> list[Tensor]:
        """Losses (0-d) since the last call: one a batch, several in an accumulation window."""
        parts, self._parts = self._parts, []
        return parts


def note_rows(trainer: L.Trainer, batch: Any, name: str, **facts: float) -> list[int]:
    """Append step, epoch and rows of a batch of all ranks to a file of the run; the first rows.

    A collective: every rank must call it.

    Args:
        trainer: of the run.
        batch: this rank's batch; its `row_id`, where it has one, names the rows.
        name: of the file, JSON lines.
        facts: what else is worth knowing.
    """
    numbers = batch.get("row_id") if isinstance(batch, dict) else None
    own = [int(n) for n in numbers.tolist()] if isinstance(numbers, Tensor) else []
    rows = [n for part in all_gather_objects(own) for n in part]
    if rank() == 0:
        line = {"step": trainer.global_step, "epoch": trainer.current_epoch, "rows": rows, **facts}
        with open(Path(trainer.default_root_dir) / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return rows[:8]
