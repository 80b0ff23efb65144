"""A tiny trained checkpoint of task=matching, as a run leaves it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from kexue_pl.data.world_pairs import WorldPairs
from kexue_pl.run.build import build, build_task
from kexue_pl.run.checkpoint_io import VerifiedCheckpointIO
from kexue_pl.run.state import RunState
from kexue_pl.run.tokenizer_files import pack

OPTIMIZER = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.01}


def config_of(model: dict[str, Any], loss: str = "cosent.CoSENT") -> dict[str, Any]:
    """The plain configuration of a run."""
    return {
        "seed": 0,
        "task": {"_target_": "kexue_pl.tasks.matching.MatchingTask", "name": "matching"},
        "data": {"_target_": "kexue_pl.data.world_pairs.WorldPairs", "train": 64},
        "model": model,
        "loss": {"_target_": f"kexue_pl.losses.{loss}"},
        "optimizer": OPTIMIZER,
        "attention": None,
        "scheduler": None,
        "penalty": None,
    }


def write_run(
    folder: Path, model: dict[str, Any], *, loss: str = "cosent.CoSENT", threshold: float = 0.4
) -> tuple[Path, Any]:
    """A checkpoint with random weights, and the task that it holds."""
    torch.manual_seed(0)
    config = config_of(model, loss)
    data = WorldPairs(train=64, valid=16, test=16)
    data.setup("fit")
    spec = build(model, "model")
    data.tokenizer = spec.load_tokenizer() or spec.train_tokenizer(data.texts())
    task = build_task(config, data, spec)
    for parameter in task.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    if not math.isnan(threshold):
        task.threshold.fill_(threshold)
    facts = {"config": config, "digest": "x", "tokenizer": pack(data.tokenizer)}
    path = folder / "checkpoints" / "best.ckpt"
    stored = {
        "state_dict": task.state_dict(),
        "callbacks": {RunState.__qualname__: {"facts": facts}},
    }
    VerifiedCheckpointIO().save_checkpoint(stored, path)
    return path, task.eval()


STATIC = {"_target_": "kexue_pl.models.static.Static", "hidden_size": 16}
SMALL = {
    "_target_": "kexue_pl.models.small.Small",
    "hidden_size": 16,
    "layers": 1,
    "heads": 2,
    "max_length": 24,
}
