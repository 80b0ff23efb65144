"""Runs in this process, for tests that need no command line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from kexue_pl.run.check import check
from kexue_pl.run.config import config_dir, plain, register


def composed(folder: Path, *overrides: str) -> dict[str, Any]:
    """The plain settings of a command line, checked, writing to `folder`."""
    register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[*overrides, f"paths.output_dir={folder}"])
    check(config)
    return plain(config)


def weights_digest(checkpoint: Path) -> str:
    """SHA-256 over the weights of a checkpoint, in order of their names."""
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode() + state[name].cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
