"""Which objects a configuration may name: our own parts, and classes of known kinds from known roots.

The rule looks at the *resolved object*, since a prefix alone would admit ``torch.load``.
"""

from __future__ import annotations

import importlib
import inspect
import os
from typing import Any

from kexue_pl.run.errors import ConfigError

__all__ = ["ROOTS", "allowed_roots", "resolve"]

ROOTS = ("kexue_pl", "torch", "lightning", "torchmetrics", "transformers")
"""Packages whose parts a configuration may name."""

ALLOW_VARIABLE = "KEXUE_PL_ALLOW_TARGETS"
_REFUSED = ("load", "hub", "serialization", "package", "utils.model_zoo", "testing", "_C")


def allowed_roots() -> tuple[str, ...]:
    """The known roots and those of the environment variable KEXUE_PL_ALLOW_TARGETS (by commas)."""
    extra = os.environ.get(ALLOW_VARIABLE, "").split(",")
    return ROOTS + tuple(root.strip() for root in extra if root.strip())


def _kinds() -> tuple[type, ...]:
    import torch
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.plugins import Precision
    from lightning.pytorch.profilers import Profiler
    from lightning.pytorch.strategies import Strategy
    from torchmetrics import Metric

    return (
        torch.optim.Optimizer,
        torch.optim.lr_scheduler.LRScheduler,
        torch.nn.Module,
        Callback,
        Logger,
        Metric,
        Profiler,
        Strategy,
        Precision,
    )


def refuse(path: str, key: str) -> ConfigError:
    """The error for a target that is not allowed."""
    return ConfigError(
        [
            f"{key}: {path!r} is not allowed as a target; parts of kexue_pl and optimizers, schedulers, "
            f"modules, callbacks, loggers and metrics of {', '.join(ROOTS[1:])} are. "
            f"For your own package set {ALLOW_VARIABLE}=package in the environment"
        ]
    )


def check_path(path: Any, key: str) -> None:
    """Refuse a target by its name alone, before anything is imported (an import runs code)."""
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        raise ConfigError([f"{key}: {path!r} is not the dotted name of a class or function"])
    root = path.split(".")[0]
    if root not in allowed_roots() or any(part.startswith("__") for part in path.split(".")):
        raise refuse(path, key)


def resolve(path: Any, key: str = "_target_") -> Any:
    """The class or function of a dotted name, if a configuration may name it.

    Args:
        path: dotted name, for instance ``torch.optim.AdamW``.
        key: where it stands, for the error.

    Raises:
        ConfigError: unknown root, nothing of that name, or an object of a kind that is not allowed.
    """
    check_path(path, key)
    module_name, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError([f"{key}: cannot import {path!r} ({error})"]) from error
    home = getattr(found, "__module__", "") or ""
    root = path.split(".")[0]
    if root not in ROOTS:
        sound = callable(found) and home.split(".")[0] == root
    elif root == "kexue_pl":
        sound = home.split(".")[0] == root and (inspect.isclass(found) or inspect.isfunction(found))
    else:
        sound = (
            inspect.isclass(found) and home.split(".")[0] in ROOTS and issubclass(found, _kinds())
        )
    if not sound:
        raise refuse(path, key)
    return found
