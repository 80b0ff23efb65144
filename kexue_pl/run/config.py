"""The typed root of a run's configuration and where its files lie. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

__all__ = ["PARTS", "Root", "config_dir", "digest", "plain", "register", "suggest"]

PARTS = (
    "task",
    "data",
    "model",
    "attention",
    "loss",
    "balancer",
    "penalty",
    "optimizer",
    "scheduler",
)
"""Groups whose one object is a part of the run."""


@dataclass
class Trainer:
    """What is passed to the Lightning trainer; the same keys hold under manual optimization."""

    max_epochs: int | None = None
    max_steps: int = -1
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    precision: str = "32-true"
    check_val_every_n_epoch: int = 1
    val_check_interval: Any = None
    limit_train_batches: Any = None
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    overfit_batches: Any = 0.0
    fast_dev_run: bool = False
    num_sanity_val_steps: int = 0
    log_every_n_steps: int = 10
    enable_progress_bar: bool = True
    enable_model_summary: bool = True
    detect_anomaly: bool = False
    deterministic: bool = False
    profiler: str | None = None


@dataclass
class Accelerator:
    """Devices and how they work together."""

    accelerator: str = "auto"
    devices: Any = 1
    strategy: str = "auto"
    num_nodes: int = 1
    process_group_backend: str | None = None


@dataclass
class Monitor:
    """The metric that tells the best checkpoint."""

    name: str = "val/loss"
    mode: str = "min"


@dataclass
class Paths:
    """Folders of a run."""

    root: str = "outputs"
    output_dir: str = "???"
    sweep_dir: str = "???"
    cache: str = "???"


@dataclass
class Root:
    """Everything that a run is made of."""

    task: Any = None
    data: Any = None
    model: Any = None
    attention: Any = None
    loss: Any = None
    balancer: Any = None
    penalty: Any = None
    optimizer: Any = None
    scheduler: Any = None
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    accelerator: Accelerator = field(default_factory=Accelerator)
    trainer: Trainer = field(default_factory=Trainer)
    monitor: Monitor = field(default_factory=Monitor)
    paths: Paths = field(default_factory=Paths)
    seed: int = 0
    resume: str = "never"
    train: bool = True
    test: bool = True
    threads: int | None = None
    tags: list[str] = field(default_factory=list)


def register() -> None:
    """Store the schema and the resolvers under the names that `conf/` uses."""
    ConfigStore.instance().store(name="schema", node=Root)
    if not OmegaConf.has_resolver("kx.wandb_offline"):
        OmegaConf.register_new_resolver("kx.wandb_offline", _wandb_offline)
        OmegaConf.register_new_resolver("kx.short", lambda name: str(name)[:120].strip(","))


def _wandb_offline() -> bool:
    mode = os.environ.get("WANDB_MODE", "")
    return mode != "online" if mode else not os.environ.get("WANDB_API_KEY")


def config_dir() -> Path:
    """The `conf` folder: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "conf"
    return beside if (package.parent / "pyproject.toml").is_file() else package / "conf"


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain dicts, lists and scalars, without Hydra's own node."""
    node = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items() if key != "hydra"}


def digest(config: dict[str, Any]) -> str:
    """SHA-256 of what decides a training: not where it writes, nor how it is watched or resumed.

    The run directory is left out of every value, so that equal runs agree wherever they write.

    >>> digest({"seed": 1, "resume": "auto"}) == digest({"seed": 1, "resume": "never"})
    True
    """
    aside = ("paths", "resume", "logger", "tags", "hydra")
    kept = {key: value for key, value in config.items() if key not in aside}
    text = json.dumps(kept, sort_keys=True, default=str)
    if folder := (config.get("paths") or {}).get("output_dir"):
        text = text.replace(json.dumps(str(folder))[1:-1], ".")
    return hashlib.sha256(text.encode()).hexdigest()


def suggest(word: str, known: Any) -> str:
    """A question naming the nearest known word, or nothing.

    >>> suggest("gradnrom", ["equal", "gradnorm"])
    "; did you mean 'gradnorm'?"
    """
    import difflib

    near = difflib.get_close_matches(word, [str(name) for name in known], n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
