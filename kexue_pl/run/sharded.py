"""Parameters, gradients and optimizer state split over the ranks (FSDP2), on CUDA and on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.optimizer import _optimizers_to_device
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from kexue_pl.distributed import world_size
from kexue_pl.run.checkpoint_io import verify
from kexue_pl.run.errors import ConfigError

__all__ = ["Sharded", "check_shardable", "shard"]

STEPS = ("training_step", "validation_step", "test_step", "predict_step")
LARGE = 1_000_000


def check_shardable(task: Any) -> None:
    """Refuse what sharding would train wrongly without a word.

    Gradients that are asked for inside of a step come before the hooks that collect those of the shards
    are there: with a task that writes gradients itself, no weight would ever move.

    Raises:
        ConfigError: naming the setting.
    """
    inside = {
        f"task={task_name(task)}": not task.automatic_optimization,
        "task.micro_batch": getattr(task, "micro_batch", None) is not None,
        "penalty": getattr(task, "penalty", None) is not None,
    }
    mistakes = [
        f"accelerator=fsdp: {what} asks for gradients inside of a step; use accelerator=ddp"
        for what, asks in inside.items()
        if asks
    ]
    if mistakes:
        raise ConfigError(mistakes)


def task_name(task: Any) -> str:
    """`multitask` for a `MultitaskTask`."""
    return type(task).__name__.removesuffix("Task").lower()


def shard(task: nn.Module, mesh: Any, large: int = LARGE) -> None:
    """Split a task over a mesh, in place: each large layer of a list for itself, then the rest.

    Lightning calls the steps of a task and not its forward, so these gather the parameters.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if isinstance(task, FSDPModule):
        return  # a test after the fit sets the strategy up once more
    for module in list(task.modules()):
        for layer in module.children() if isinstance(module, nn.ModuleList) else ():
            if sum(p.numel() for p in layer.parameters()) >= large:
                fully_shard(layer, mesh=mesh)
    fully_shard(task, mesh=mesh)
    for name in STEPS:
        register_fsdp_forward_method(task, name)


class Sharded(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, which leaves the splitting to the user: here it is done.

    Checkpoints hold whole tensors, assembled on rank zero, so they are those of any other run. (Lightning's
    older FSDPStrategy is for GPUs only; it refuses the CPU in the trainer's constructor.)

    Args:
        process_group_backend: "gloo" or "nccl".
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(
            data_parallel_size=world_size(),
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
        )

    def setup(self, trainer: L.Trainer) -> None:
        """Split the task, then make the optimizers of what this rank holds."""
        assert self.model is not None and self.accelerator is not None
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        shard(self.model, self.device_mesh["data_parallel"])
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if trainer.state.fn == TrainerFn.FITTING:
            _optimizers_to_device(self.optimizers, self.root_device)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """Read a file into the shards; its bytes are verified, nothing in it is executed."""
        verify(Path(checkpoint_path))
        return super().load_checkpoint(checkpoint_path, weights_only=True)
