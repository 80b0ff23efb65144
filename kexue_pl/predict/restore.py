"""A trained task from its checkpoint: verified bytes, stored configuration, stored tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kexue_pl.run.errors import RunError

__all__ = ["Restored", "restore"]


class _Tokens:
    """Stands for the data module of training, of which a task needs the tokenizer alone."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.tables: dict[str, Any] = {}

    def use(self, encoder: Any, *, joined: bool) -> None:
        """There are no rows to tokenize."""


class Restored:
    """A task as it was trained, in evaluation mode.

    Attributes:
        task: the LightningModule with its weights.
        tokenizer: what the run trained or loaded.
        config: the plain configuration of the run.
        path: the checkpoint.
    """

    def __init__(self, task: Any, tokenizer: Any, config: dict[str, Any], path: Path) -> None:
        self.task, self.tokenizer, self.config, self.path = task, tokenizer, config, path


def restore(checkpoint: str | Path, *, task: str = "matching") -> Restored:
    """Rebuild the task of a checkpoint; matching without its data, others with it.

    Args:
        checkpoint: a ``.ckpt`` file of a run, or the run's folder (its best checkpoint, else last).
        task: the name of the task that is expected.

    Raises:
        RunError: no checkpoint there, or one of another task.
        CheckpointCorruptError: damaged or foreign bytes; nothing in them is executed.
    """
    from kexue_pl.run.build import build, build_task
    from kexue_pl.run.checkpoint_io import read
    from kexue_pl.run.contents import facts_of, load_weights
    from kexue_pl.run.tokenizer_files import unpack
    from kexue_pl.run.train import assemble

    path = _file(Path(checkpoint))
    stored = read(path)
    facts = facts_of(stored, path)
    config = facts["config"]
    if config["task"]["name"] != task:
        name = config["task"]["name"]
        raise RunError(f"checkpoint={path}: a checkpoint of task={name}, expected task={task}")
    tokenizer = unpack(facts["tokenizer"])
    if task == "matching":
        spec = build(config["model"], "model")
        if hasattr(spec, "recall"):
            spec.recall(facts.get("model", {}))
        model = build_task(config, _Tokens(tokenizer), spec)
    else:  # answers are keys of the base, which the data of the run holds
        _, model = assemble(config, facts)
    model.on_load_checkpoint(stored)
    load_weights(model, stored, path)
    return Restored(model.eval(), tokenizer, config, path)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    names = [folder / name for folder in (path / "checkpoints", path)
             for name in ("best.ckpt", "last.ckpt")]  # fmt: skip
    found = next((name for name in names if name.is_file()), None)
    if found is None:
        raise RunError(
            f"checkpoint={path}: no such file, nor a run folder with checkpoints/best.ckpt"
        )
    return found
