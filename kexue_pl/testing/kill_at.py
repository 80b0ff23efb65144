"""A callback that lets a signal hit the run at a chosen place."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L

from kexue_pl.distributed import rank

__all__ = ["KillAt"]

PLACES = ("start", "step", "end", "validation", "save")


class KillAt(L.Callback):
    """Sends a real signal to the process itself, once, at the first place from a batch on.

    Args:
        batch: batches of the whole run, over all epochs, before the signal.
        number: name of the signal.
        where: "start" (before the batch), "step" (gradients are there, the optimizer has not stepped),
            "end" (after the step, before a checkpoint), "validation" (its end), "save" (a
            checkpoint is half written).
        only: the rank that is hit; -1: every rank.

    Raises:
        ValueError: an unknown place.
    """

    def __init__(
        self, *, batch: int, number: str = "SIGKILL", where: str = "start", only: int = -1
    ) -> None:
        if where not in PLACES:
            raise ValueError(f"where={where!r}: one of {', '.join(PLACES)}")
        self.batch, self.number = batch, signal.Signals[number]
        self.where, self.only = where, only
        self.sent = False

    def _hit(self, trainer: L.Trainer, where: str) -> bool:
        loop: Any = trainer.fit_loop.epoch_loop
        if self.sent or where != self.where or loop.total_batch_idx < self.batch:
            return False
        self.sent = self.only in (-1, rank())
        return self.sent

    def _at(self, trainer: L.Trainer, where: str) -> None:
        if self._hit(trainer, where):
            self._note(trainer)
            os.kill(os.getpid(), self.number)

    @staticmethod
    def _note(trainer: L.Trainer) -> None:
        """Optimizer steps made so far, for whoever counts what was lost."""
        path = Path(trainer.default_root_dir) / "kill_at.txt"
        path.write_text(str(trainer.global_step), encoding="utf-8")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before a batch."""
        self._at(trainer, "start")

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any
    ) -> None:
        """Between the gradient and the step."""
        self._at(trainer, "step")

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """After a batch."""
        self._at(trainer, "end")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After a validation."""
        self._at(trainer, "validation")

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the writer of the file be hit after its first blocks."""
        if self._hit(trainer, "save") and trainer.is_global_zero:
            from kexue_pl.run import checkpoint_io

            self._note(trainer)
            write, seen, number = checkpoint_io._HashingWriter.write, [0], self.number

            def hit(self: Any, data: Any) -> int:
                seen[0] += len(memoryview(data).cast("B"))
                if seen[0] > 10_000:
                    os.kill(os.getpid(), number)
                return write(self, data)

            checkpoint_io._HashingWriter.write = hit  # type: ignore[method-assign]
