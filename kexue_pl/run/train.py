"""One process of a run: build, fit, test with the best checkpoint, record."""

from __future__ import annotations

import contextlib
import os
import traceback
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only

from kexue_pl.distributed import rank, world_size
from kexue_pl.run import record
from kexue_pl.run.build import build, build_dict, build_task
from kexue_pl.run.checkpoint_io import newest_sound, read
from kexue_pl.run.config import digest
from kexue_pl.run.contents import facts_of
from kexue_pl.run.errors import ConfigError, Interrupted
from kexue_pl.run.files import hold
from kexue_pl.run.log import logger, quieten
from kexue_pl.run.sources import check_sources, sources
from kexue_pl.run.state import RunState
from kexue_pl.run.tokenizer_files import pack, unpack
from kexue_pl.run.trainer import make_trainer

__all__ = ["assemble", "train"]


def find_checkpoint(config: dict[str, Any]) -> Path | None:
    """The checkpoint that `resume` means; None to start anew."""
    resume, folder = config["resume"], Path(config["paths"]["output_dir"]) / "checkpoints"
    if resume == "never":
        return None
    if resume != "auto":
        return Path(resume)
    found, passed = newest_sound(folder)
    for reason in passed:
        logger.warning("resume=auto passes over %s", reason)
    logger.info("resume=auto: %s", found or f"no checkpoint in {folder}; starting anew")
    return found


def assemble(config: dict[str, Any], facts: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """Data module and task of a configuration.

    Args:
        config: the plain configuration.
        facts: what an earlier run stored of itself; its tokenizer is used again, and a pretrained
            model is rebuilt without its folder.
    """
    data, spec = build(config["data"], "data"), build(config["model"], "model")
    data.cache_dir = Path(config["paths"]["cache"])
    if rank() == 0:
        data.prepare_data()
    if world_size() > 1:
        torch.distributed.barrier()
    data.setup("fit")
    data.tokenizer = unpack(facts["tokenizer"]) if facts else make_tokenizer(data, spec)
    if facts and hasattr(spec, "recall"):
        spec.recall(facts.get("model", {}))
    task = build_task(config, data, spec)
    task.model_facts = spec.facts() if hasattr(spec, "facts") else {}
    return data, task


def make_tokenizer(data: Any, spec: Any) -> Any:
    """The model's own tokenizer, or one trained on the training texts; None if none is needed."""
    if spec is None or not hasattr(spec, "load_tokenizer"):
        return data.tokenizer
    loaded = spec.load_tokenizer()
    if loaded is not None:
        return loaded
    texts = data.texts()
    return data.tokenizer if texts is None else spec.train_tokenizer(texts)


def check_resumable(config: dict[str, Any], facts: dict[str, Any], path: Path) -> None:
    """Refuse to continue with settings under which the checkpoint was not made."""
    from kexue_pl.run.launch import flatten

    free = (
        "paths",
        "resume",
        "logger",
        "trainer",
        "accelerator",
        "train",
        "test",
        "tags",
        "threads",
    )
    old, new = (
        flatten({k: v for k, v in c.items() if k not in free and k != "callbacks"})
        for c in (facts["config"], config)
    )
    wrong = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if wrong:
        raise ConfigError(
            [
                f"{key}: {new.get(key)!r}, but {path.name} was trained with {old.get(key)!r}"
                for key in wrong
            ]
        )


def train(config: dict[str, Any]) -> dict[str, Any]:
    """Run the whole of `config` in this process (one of several under DDP); the summary.

    Raises:
        RunError: what the user can mend.
        Interrupted: a signal; the state was saved.
    """
    quieten()
    folder = Path(config["paths"]["output_dir"])
    with hold(folder) if rank() == 0 else contextlib.nullcontext():
        return _recorded(config, folder)


def _recorded(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    clock = record.Clock()
    write = rank_zero_only(record.write_summary)
    write(folder, config, "running", {}, clock)
    try:
        metrics, checkpoint = _train(config, folder)
    except Interrupted as stop:
        write(folder, config, "interrupted", {}, clock, error=str(stop))
        raise
    except BaseException as error:
        if rank() == 0 or not isinstance(error, KeyboardInterrupt):
            logger.debug("%s", traceback.format_exc())
        # A full disk must not hide the error that it caused.
        with contextlib.suppress(OSError):
            write(folder, config, "failed", {}, clock, error=f"{type(error).__name__}: {error}")
        raise
    write(folder, config, "completed", metrics, clock, checkpoint=checkpoint)
    return metrics


def _train(config: dict[str, Any], folder: Path) -> tuple[dict[str, float], Path | None]:
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    torch.use_deterministic_algorithms(config["trainer"]["deterministic"])
    L.seed_everything(config["seed"], workers=True, verbose=False)
    path = find_checkpoint(config)
    facts, files = None, sources(config["data"])
    if path is not None:
        facts = facts_of(read(path), path)
        check_resumable(config, facts, path)
        check_sources(facts.get("sources", {}), files, path.name)
    data, task = assemble(config, facts)
    L.seed_everything(config["seed"] + rank(), workers=True, verbose=False)
    state = RunState(
        {
            "config": config,
            "digest": digest(config),
            "tokenizer": pack(data.tokenizer),
            "model": task.model_facts,
            "sources": files,
        }
    )
    trainer = make_trainer(
        config, folder, task, [state, *build_dict(config["callbacks"], "callbacks")]
    )
    try:
        return _fit_and_test(config, folder, trainer, task, data, path)
    finally:
        _finish(trainer)


def _fit_and_test(
    config: dict[str, Any],
    folder: Path,
    trainer: L.Trainer,
    task: Any,
    data: Any,
    path: Path | None,
) -> tuple[dict[str, float], Path | None]:
    metrics: dict[str, float] = {}
    best = path
    if config["train"]:
        set_total_steps(config, task, data)
        for log in trainer.loggers:
            if path is not None and hasattr(log, "take_over"):
                log.take_over(int(read(path)["global_step"]))
        trainer.fit(task, datamodule=data, ckpt_path=path, weights_only=True)
        metrics |= {k: float(v) for k, v in trainer.callback_metrics.items()}
        best = best_checkpoint(trainer)
    if config["test"]:
        if config["train"] and config["monitor"]["name"] not in trainer.callback_metrics:
            # The run stopped before its first validation, which may choose what the test needs.
            trainer.validate(task, datamodule=data, verbose=False)
            best = None
        trainer.test(task, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)
        metrics |= {k: float(v) for k, v in trainer.callback_metrics.items()}
    if rank() == 0:
        record.write_artifacts(folder, task, trainer)
        record.write_counts(folder, data.counts)
    return metrics, best


def best_checkpoint(trainer: L.Trainer) -> Path | None:
    """The file of the best checkpoint, else of the last; None where none was written."""
    found = [str(getattr(c, "best_model_path", "")) for c in trainer.checkpoint_callbacks]
    paths = [Path(name) for name in found if name and Path(name).is_file()]
    return next((path for path in paths if path.name == "best.ckpt"), paths[0] if paths else None)


def set_total_steps(config: dict[str, Any], task: Any, data: Any) -> None:
    """Optimizer steps of the whole run, from the settings alone, so that a resumed run agrees.

    (The trainer's own estimate changes when it is asked in the middle of an epoch.)
    """
    trainer = config["trainer"]
    batches = 1 if trainer["fast_dev_run"] else len(data.train_batches(0))
    limit = trainer["overfit_batches"] or trainer["limit_train_batches"]
    if limit is not None and not trainer["fast_dev_run"]:
        batches = int(batches * limit) if limit <= 1 and isinstance(limit, float) else int(limit)
    steps = -(-max(1, batches) // trainer["accumulate_grad_batches"])
    total = steps * trainer["max_epochs"] if trainer["max_epochs"] is not None else None
    if trainer["max_steps"] > 0:
        total = min(total, trainer["max_steps"]) if total is not None else trainer["max_steps"]
    task.total_steps = total or 1


def _finish(trainer: L.Trainer) -> None:
    """Close what a next run in this process must not inherit."""
    for log in trainer.loggers:
        if type(log).__name__ in ("Wandb", "WandbLogger"):
            import wandb

            wandb.finish()
    os.environ.pop("PL_GLOBAL_SEED", None)
