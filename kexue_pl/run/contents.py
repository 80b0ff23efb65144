"""What is in the checkpoint of a run: its own facts, and weights that fit one module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kexue_pl.run.checkpoint_io import CheckpointCorruptError
from kexue_pl.run.targets import resolve

__all__ = ["facts_of", "load_weights"]


def facts_of(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the run stored of itself in a checkpoint: ``config``, ``digest``, ``tokenizer``.

    Raises:
        CheckpointCorruptError: whole, but not written by a run of this program.
    """
    try:
        facts: dict[str, Any] = checkpoint["callbacks"]["RunState"]["facts"]
        missing = [key for key in ("config", "tokenizer") if key not in facts]
    except (KeyError, TypeError, AttributeError):
        missing = ["callbacks.RunState.facts"]
    if missing:
        raise CheckpointCorruptError(path, f"holds no {missing[0]}: not the checkpoint of a run")
    if not facts["tokenizer"] and (kind := _reads_text(facts["config"].get("model"))):
        raise CheckpointCorruptError(path, f"holds no words of a tokenizer, which {kind} needs")
    return facts


def _reads_text(model: dict[str, Any] | None) -> str:
    """The name of a model specification that reads tokens; "" for one that does not, or none."""
    if not model:
        return ""
    target = str(model["_target_"])
    reads = hasattr(resolve(target, "model._target_"), "train_tokenizer")
    return target.rpartition(".")[2] if reads else ""


def load_weights(module: torch.nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Load the weights of a checkpoint into the module it was made for.

    Raises:
        CheckpointCorruptError: other names or shapes; the first few are listed.
    """
    state = checkpoint.get("state_dict")
    if not isinstance(state, dict):
        raise CheckpointCorruptError(path, "holds no state_dict")
    own = module.state_dict()
    wrong = [f"no {name} in it" for name in own if name not in state]
    wrong += [f"{name} is not in the model" for name in state if name not in own]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, the model has {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointCorruptError(
            path, f"weights of another model: {'; '.join(wrong[:3])}{more}"
        )
    module.load_state_dict(state)
