"""The Lightning trainer of a run."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import RichModelSummary, RichProgressBar
from lightning.pytorch.strategies import DDPStrategy, Strategy

from kexue_pl.distributed import world_size
from kexue_pl.run.build import build_dict
from kexue_pl.run.checkpoint_io import VerifiedCheckpointIO

__all__ = ["make_trainer"]


def make_trainer(
    config: dict[str, Any], folder: Path, task: Any, callbacks: list[L.Callback]
) -> L.Trainer:
    """The trainer that `config` describes, writing to `folder`.

    Under manual optimization clipping and accumulation are the task's own work: the trainer would
    refuse the two keys, so they are handed to the task.
    """
    settings = dict(config["trainer"])
    fast = settings["fast_dev_run"]
    if not task.automatic_optimization:
        task.accumulate_grad_batches = settings.pop("accumulate_grad_batches")
        task.gradient_clip_val = settings.pop("gradient_clip_val")
    progress, summary = settings.pop("enable_progress_bar"), settings.pop("enable_model_summary")
    if progress := progress and sys.stdout.isatty():
        callbacks = [*callbacks, RichProgressBar(leave=True)]
    if summary:
        callbacks = [*callbacks, RichModelSummary(max_depth=2)]
    if settings["profiler"]:
        settings["profiler"] = _profiler(settings["profiler"], folder)
    if fast:
        callbacks = [c for c in callbacks if not isinstance(c, _NEED_FILES)]
    trainer = L.Trainer(
        **settings,
        **_devices(config["accelerator"], task),
        # Named, since under SLURM the trainer would take the job's task count for that of the ranks.
        plugins=[
            VerifiedCheckpointIO(),
            TorchElasticEnvironment() if world_size() > 1 else LightningEnvironment(),
        ],
        callbacks=callbacks,
        logger=False if fast else build_dict(config["logger"], "logger"),
        default_root_dir=folder,
        use_distributed_sampler=False,
        enable_progress_bar=progress,
        enable_model_summary=summary,
        enable_checkpointing=not fast,
    )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        _drop_idle_hooks(callback)
    return trainer


STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def _drop_idle_hooks(callback: L.Callback) -> None:
    """Take away the hooks of a step that a callback inherits, and which do nothing.

    Lightning calls whatever can be called, each time under its profiler: with the callbacks of a run
    that is a percent of a small model's step.
    """
    for name in STEP_HOOKS:
        if getattr(type(callback), name) is getattr(L.Callback, name):
            setattr(callback, name, None)


_NEED_FILES = (
    L.pytorch.callbacks.ModelCheckpoint,
    L.pytorch.callbacks.LearningRateMonitor,
    L.pytorch.callbacks.EarlyStopping,
)


def _profiler(name: str, folder: Path) -> Any:
    from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler

    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
    if name not in kinds:
        raise ValueError(f"trainer.profiler={name}: one of {', '.join(kinds)}")
    return kinds[name](dirpath=str(folder), filename="profile")


def _devices(accelerator: dict[str, Any], task: Any) -> dict[str, Any]:
    """Devices, nodes and strategy; in a group of processes each one finds its rank given."""
    chosen: dict[str, Any] = {"accelerator": accelerator["accelerator"], "num_nodes": 1}
    if world_size() == 1:
        devices = accelerator["devices"]
        return chosen | {"devices": 1 if devices in (-1, "-1", "auto") else devices}
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    return chosen | {
        "devices": devices,
        "num_nodes": max(1, world_size() // devices),
        "strategy": _strategy(accelerator, task),
    }


def _strategy(accelerator: dict[str, Any], task: Any) -> Strategy:
    if accelerator["strategy"] == "fsdp":
        from kexue_pl.run.sharded import Sharded, check_shardable

        check_shardable(task)
        return Sharded(accelerator["process_group_backend"])
    # Evaluation shards may differ by a batch, so a forward pass must not sync buffers; they are equal.
    no_sync: dict[str, Any] = {_buffer_switch(): False}
    return DDPStrategy(
        process_group_backend=accelerator["process_group_backend"],
        **no_sync,
        find_unused_parameters=getattr(task, "find_unused_parameters", False),
        gradient_as_bucket_view=True,
    )


def _buffer_switch() -> str:
    """The name of DDP's switch for syncing buffers in a forward pass; newer torch renamed it."""
    takes = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
    return "forward_sync_buffers" if "forward_sync_buffers" in takes else "broadcast_buffers"
