"""The two checkpoints of a run: the best by the monitored metric, and the last."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

__all__ = ["BestCheckpoint", "LastCheckpoint"]


class _Checkpoint(ModelCheckpoint):
    """Knows its name: Lightning asks for it at every hook, and would write it out anew each time."""

    _key: str | None = None

    @property
    def state_key(self) -> str:
        """Under which the state is stored."""
        self._key = self._key or super().state_key
        return self._key


class BestCheckpoint(_Checkpoint):
    """Keeps best.ckpt, chosen on validation.

    Args:
        dirpath: folder of the checkpoints.
        monitor: metric that is compared.
        mode: "min" or "max".
    """

    def __init__(self, dirpath: str, *, monitor: str = "val/loss", mode: str = "min") -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            enable_version_counter=False,
            auto_insert_metric_name=False,
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing to choose from when the run stopped before its first validation."""
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)


class LastCheckpoint(_Checkpoint):
    """Keeps last.ckpt, from which a run is resumed; the one before it stays as previous.ckpt.

    Args:
        dirpath: folder of the checkpoints.
        every_n_train_steps: optimizer steps between two of them.
    """

    def __init__(self, dirpath: str, *, every_n_train_steps: int = 500) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="last",
            monitor=None,
            save_top_k=1,
            every_n_train_steps=every_n_train_steps,
            enable_version_counter=False,
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save at the end of each epoch too, unless this very step was saved."""
        if self._last_global_step_saved != trainer.global_step:
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))
