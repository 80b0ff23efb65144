"""What all tasks share: optimizer and schedule, penalties, logging."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import lightning as L
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kexue_pl.distributed import all_gather_objects

__all__ = ["BaseTask", "Penalty", "decay_groups"]


class Penalty(Protocol):
    """A change of the training loss (package `penalties`)."""

    def loss(
        self,
        closure: Callable[[], Tensor],
        *,
        parameters: list[nn.Parameter],
        embeddings: nn.Module | None,
    ) -> Tensor:
        """The loss to run backward from."""
        ...

    def after_backward(self) -> None:
        """Called after the backward pass, before clipping and the step."""
        ...


def decay_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Two parameter groups: matrices, which decay, and vectors (biases, norms, scales), which do not.

    >>> [len(group["params"]) for group in decay_groups(nn.Linear(2, 3))]
    [1, 1]
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class BaseTask(L.LightningModule):
    """Base of the tasks; a subclass writes `loss` and the evaluation steps.

    Args:
        optimizer: makes the optimizer from parameter groups.
        scheduler: makes the schedule from the optimizer and `total_steps`; None keeps the rate.
        penalty: changes the training loss; None trains the plain one.
    """

    monitor: ClassVar[str] = "val/loss"
    monitor_mode: ClassVar[str] = "min"

    def __init__(
        self,
        *,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        penalty: Penalty | None = None,
    ) -> None:
        super().__init__()
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.penalty = penalty
        self.total_steps = 0
        self._tallies: dict[str, list[float]] = {}
        self.accumulate_grad_batches = 1
        self.gradient_clip_val: float | None = None

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Scalar training loss of a batch, without penalties."""
        raise NotImplementedError

    def embeddings(self) -> nn.Module | None:
        """The input embedding layer, which embedding penalties perturb; None where there is none."""
        return None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One loss, changed by the penalty where there is one."""
        if self.penalty is None:
            loss = self.loss(batch)
        else:
            loss = self.penalty.loss(
                lambda: self.loss(batch),
                parameters=[p for p in self.parameters() if p.requires_grad],
                embeddings=self.embeddings(),
            )
        self.log("train/loss", loss.detach(), prog_bar=self.has_bar, batch_size=1)
        added = getattr(self.penalty, "value", None)
        if added is not None:
            self.log("train/penalty", added, batch_size=1)
        return loss

    @property
    def has_bar(self) -> bool:
        """Whether a progress bar shows: what stands on it is read back from the device at every step."""
        return self.trainer.progress_bar_callback is not None

    def on_after_backward(self) -> None:
        """Let the penalty put back what it moved."""
        if self.penalty is not None:
            self.penalty.after_backward()

    def configure_optimizers(self) -> Any:
        """One optimizer; biases and norms do not decay; the schedule moves at every step."""
        optimizer = self.make_optimizer(decay_groups(self))
        if self.make_scheduler is None:
            return optimizer
        schedule = self.make_scheduler(optimizer, total_steps=max(1, self.total_steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def tally(self, name: str, value: Tensor | float, rows: int) -> None:
        """Add the mean `value` over `rows` evaluated rows; the mean over all rows of all ranks is
        logged as `name` at the end of the validation or test.

        (The trainer's own reduction over ranks divides by a row count that it rounds down, which is
        wrong where ranks hold different numbers of rows.)
        """
        total = self._tallies.setdefault(name, [0.0, 0.0])
        total[0] += float(value) * rows
        total[1] += rows

    def _log_tallies(self) -> None:
        parts = all_gather_objects(self._tallies)
        for name in sorted({name for part in parts for name in part}):
            sums = [part[name] for part in parts if name in part]
            mean = sum(total for total, _ in sums) / sum(rows for _, rows in sums)
            self.log(name, mean, prog_bar=name == self.monitor)
        self._tallies = {}

    def on_validation_epoch_end(self) -> None:
        """Log what was tallied."""
        self._log_tallies()

    def on_test_epoch_end(self) -> None:
        """Log what was tallied."""
        self._log_tallies()

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Tables to write beside the metrics, by file name; each a list of rows."""
        return {}

    def plots(self, folder: Path) -> list[Path]:
        """Draw plots of the test into `folder`; the files written."""
        return []
