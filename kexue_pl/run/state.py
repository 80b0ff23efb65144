"""What makes a resumed run end bitwise where an uninterrupted one ends, and an orderly stop."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from kexue_pl.distributed import all_gather_objects, all_reduce_sum, rank, world_size
from kexue_pl.run.errors import Interrupted
from kexue_pl.run.log import logger

__all__ = ["RunState", "rng_state", "set_rng_state", "snapshot"]


def snapshot() -> dict[str, Tensor]:
    """State of torch's generators, which models draw from: cheap enough for every batch."""
    state = {"torch": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def rng_state(taken: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """State of the random generators of torch, NumPy and Python, as tensors and primitives.

    Args:
        taken: an earlier `snapshot` in place of torch's state now.
    """
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, cached = numpy_state
    version, internal, gauss = random.getstate()
    return {
        **(taken or snapshot()),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` gave."""
    torch.set_rng_state(state["torch"].cpu())
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


class RunState(L.Callback):
    """Carries random states of all ranks and the run's own facts in the checkpoint; stops on signals.

    SIGTERM, Ctrl-C and the warnings of a cluster (SIGUSR1, SIGUSR2) set a flag; at the next
    optimizer step boundary all ranks save last.ckpt and stop together.

    Args:
        facts: primitives and tensors to store: the configuration, its digest, the tokenizer.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self._begun: dict[str, Tensor] | None = None
        self._restored: dict[str, Any] | None = None
        self._signal = 0
        self._old: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Facts, and the random state that the next batch must begin with, one for each rank."""
        return {"facts": self.facts, "rng": all_gather_objects(rng_state(self._begun))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the first batch; loaders draw before it."""
        states = state_dict["rng"]
        if len(states) != world_size():
            logger.warning(
                "resume: the checkpoint is of %d processes, this run has %d; batches stay the same, "
                "but dropout draws differently from here on",
                len(states),
                world_size(),
            )
        self._restored = states[rank() % len(states)]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over from the trainer, which would leave with exit code 0."""
        from kexue_pl.run.launch import take_signals

        self._old = take_signals(self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._signal == signal.SIGINT == number:
            raise Interrupted(number)  # a second Ctrl-C does not wait for the batch
        self._signal = number

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._give_back()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back; after an error there is no teardown."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._old = {}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore, once, and note the state that this batch began with."""
        if self._restored is not None:
            set_rng_state(self._restored)
            self._restored = None
        self._begun = snapshot()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Between two optimizer steps: stop if any rank was asked to."""
        self._begun = None
        if not self._at_boundary(trainer, batch_idx):
            return
        asked = self._signal
        if world_size() > 1:
            asked = int(all_reduce_sum(torch.tensor([asked], device=pl_module.device)))
        if asked:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
            raise Interrupted(self._signal or signal.SIGTERM)

    @staticmethod
    def _at_boundary(trainer: L.Trainer, batch_idx: int) -> bool:
        task: Any = trainer.lightning_module
        every = (
            trainer.accumulate_grad_batches
            if task.automatic_optimization
            else getattr(task, "accumulate_grad_batches", 1)
        )
        return (batch_idx + 1) % every == 0 or trainer.is_last_batch
