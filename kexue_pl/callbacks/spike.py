"""Leaves out steps whose loss jumps far above what it was, or goes back to the last checkpoint."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
from torch.optim import Optimizer

from kexue_pl.callbacks.rows import StepWatcher, note_rows
from kexue_pl.distributed import all_reduce_sum, world_size
from kexue_pl.run.errors import RunError
from kexue_pl.run.log import logger

__all__ = ["Spike", "SpikeError", "bound"]


class SpikeError(RunError):
    """The loss spiked again after as many rewinds as were allowed."""


def bound(losses: list[float], factor: float) -> float:
    """Largest loss that is no spike: median + factor * 1.4826 * (median absolute deviation).

    The deviation counts as at least 1 % of the median, so that a flat loss is not all spikes.

    >>> round(bound([1.0, 2.0, 3.0], factor=2.0), 4)
    4.9652
    """
    middle = median(losses)
    spread = 1.4826 * median(abs(loss - middle) for loss in losses)
    return middle + factor * max(spread, 0.01 * abs(middle))


class Spike(StepWatcher):
    """Watches the mean training loss of all ranks; all ranks act alike.

    A spike's gradients are taken away, so that neither weights nor optimizer move. With
    ``action="rewind"`` weights and optimizer then go back to the newest checkpoint, and training goes
    on with the batches that come next; steps and schedule are not turned back. Both are counted
    (`train/spikes`, `train/rewinds`); rows are appended to spikes.jsonl.

    Args:
        action: "skip" or "rewind".
        factor: robust standard deviations above the median of the last losses, > 0.
        window: losses that are remembered; none is a spike before half of them are there.
        patience: so many spikes in a row are a new level and no longer left out.
        rewinds: so many rewinds, then SpikeError.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        *,
        action: str = "skip",
        factor: float = 8.0,
        window: int = 100,
        patience: int = 5,
        rewinds: int = 3,
    ) -> None:
        super().__init__()
        if action not in ("skip", "rewind"):
            raise ValueError(f"action={action!r}: must be skip or rewind")
        if factor <= 0 or window < 4 or patience < 1 or rewinds < 1:
            raise ValueError(
                f"factor={factor}, window={window}, patience={patience}, rewinds={rewinds}: factor > 0, "
                "window >= 4, patience and rewinds >= 1"
            )
        self.action, self.factor, self.window = action, factor, window
        self.patience, self.rewinds = patience, rewinds
        self.spikes = self.rewound = 0
        self._losses: list[float] = []
        self._in_a_row = 0
        self._back = False

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradients of a spike away."""
        parts = self.parts()
        held = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        if not parts or not held:
            return  # the guard against NaN was here before
        total = all_reduce_sum(sum(parts[1:], parts[0]).double().reshape(1))
        loss = float(total) / world_size()
        known = len(self._losses) >= self.window // 2
        if not known or loss <= bound(self._losses, self.factor):
            self._accept(loss)
            return
        if self._in_a_row >= self.patience:
            self._losses = []  # it stays there: a new level
            self._accept(loss)
            return
        for parameter in held:
            parameter.grad = None
        self.spikes += 1
        self._in_a_row += 1
        usual = median(self._losses)
        rows = note_rows(trainer, self._batch, "spikes.jsonl", loss=loss, usual=usual)
        pl_module.log("train/spikes", float(self.spikes), batch_size=1)
        logger.warning(
            "step %d: loss %.4g, usual %.4g; left out (rows %s)",
            trainer.global_step,
            loss,
            usual,
            rows,
        )
        self._back = self.action == "rewind"

    def _accept(self, loss: float) -> None:
        self._in_a_row = 0
        self._losses = [*self._losses, loss][-self.window :]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Go back, after the step that was left out."""
        if not self._back:
            return
        self._back = False
        from kexue_pl.run.checkpoint_io import newest_sound, read

        path, _ = newest_sound(Path(trainer.default_root_dir) / "checkpoints")
        if path is None:
            logger.warning("no checkpoint to rewind to; the step was left out only")
            return
        if self.rewound >= self.rewinds:
            raise SpikeError(
                f"step {trainer.global_step}: the loss spiked again after {self.rewound} rewinds; "
                "lower optimizer.lr, or look at spikes.jsonl in the run directory"
            )
        stored = read(path)
        pl_module.on_load_checkpoint(stored)
        pl_module.load_state_dict(stored["state_dict"])
        for optimizer, state in zip(trainer.optimizers, stored["optimizer_states"], strict=True):
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate  # the schedule goes on
        self.rewound += 1
        pl_module.log("train/rewinds", float(self.rewound), batch_size=1)
        logger.warning("rewound to the weights of step %d", stored["global_step"])

    def state_dict(self) -> dict[str, Any]:
        """Counts and the losses that are compared with."""
        return {
            "spikes": self.spikes,
            "rewound": self.rewound,
            "in_a_row": self._in_a_row,
            "losses": list(self._losses),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue."""
        self.spikes, self.rewound = state_dict["spikes"], state_dict["rewound"]
        self._in_a_row, self._losses = state_dict["in_a_row"], list(state_dict["losses"])
