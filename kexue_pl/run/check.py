"""Finds all mistakes of a configuration at once, before anything is built.

For every `_target_`: is it allowed, does its constructor take the keys beside it, is anything that it
needs missing. Then `???`, unknown keys at the root, secrets, and rules across fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, Node, OmegaConf

from kexue_pl.run.config import PARTS, Root, suggest
from kexue_pl.run.errors import ConfigError
from kexue_pl.run.signatures import signature
from kexue_pl.run.targets import check_path

__all__ = ["check", "closed", "closed_variables", "secret_keys"]

_WORDS = r"api_?keys?|secrets?|passwords?|passwd|credentials?|(?:auth_|access_|hf_|hub_|api_)?token"
SECRET = re.compile(rf"(?:^|\.)(?:\w+_)?(?:{_WORDS})$", re.IGNORECASE)
_VOCABULARY = re.compile(r"(?:eos|bos|pad|unk|mask|cls|sep)_token$")


def secret_keys(keys: list[str]) -> list[str]:
    """Keys whose names say that they hold a secret.

    >>> secret_keys(["logger.wandb.api_key", "model.tokenizer", "data.max_tokens", "my_secret"])
    ['logger.wandb.api_key', 'my_secret']
    """
    return [key for key in keys if SECRET.search(key) and not _VOCABULARY.search(key)]


_READS = re.compile(r"\$\{\s*oc\.env\s*:\s*([^,}]*)", re.IGNORECASE)
_OPEN = re.compile(r"(?:KEXUE|SLURM)_\w+|HOME|USER|TMPDIR|HOSTNAME")


def closed_variables(text: str) -> list[str]:
    """Variables of the environment that a text reads and that a configuration may not read.

    >>> closed_variables("${oc.env:KEXUE_DATA,.}/x ${oc.env:HF_TOKEN} ${oc.env:${name}}")
    ['HF_TOKEN', '${name']
    """
    found = [name.strip() for name in _READS.findall(text)]
    return [name for name in found if not _OPEN.fullmatch(name)]


def closed(key: str, name: str) -> str:
    """What is said of a variable that may not be read."""
    return (
        f"{key}: ${{oc.env:{name}}} may not be read, since settings are written to files; "
        "KEXUE_..., SLURM_..., HOME, USER, TMPDIR and HOSTNAME may"
    )


def check(config: DictConfig) -> None:
    """Raise one ConfigError that lists every mistake of `config`; nothing is built."""
    mistakes = [
        f"{key}: unknown{suggest(key, Root.__annotations__)}"
        for key in map(str, config)
        if key not in Root.__annotations__
    ]
    mistakes += list(_walk(config, ""))
    mistakes += list(_across(config))
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))


def _walk(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, Node) and isinstance(raw := node._value(), str):
        yield from (closed(path, name) for name in closed_variables(raw))
    if not isinstance(node, DictConfig | ListConfig):
        return
    if node._is_none() or node._is_missing() or node._is_interpolation():
        return
    if isinstance(node, ListConfig):
        for number in range(len(node)):
            yield from _walk(node._get_node(number), f"{path}[{number}]")
        return
    if node._get_node("_target_", validate_access=False) is not None:
        yield from _target(node, path)
    for key in node:
        here = f"{path}.{key!s}" if path else str(key)
        if secret_keys([here]):
            yield f"{here}: looks like a secret; give it through the environment, not in a config"
        if OmegaConf.is_missing(node, key):
            yield f"{here}: required; set {here}=VALUE"
        else:
            yield from _walk(node._get_node(key), here)


def _target(node: DictConfig, path: str) -> Iterator[str]:
    value: Any = node._get_node("_target_", validate_access=False)
    target = value._value()
    try:
        check_path(target, f"{path}._target_")
        takes = signature(target, f"{path}._target_")
    except ConfigError as error:
        yield from error.mistakes
        return
    if node._get_node("_args_", validate_access=False) is not None:
        yield f"{path}._args_: positional arguments are not accepted; name them"
    if takes is None:
        return
    named = () if path != "task" else ("name",)  # the task's name is for tables and folders
    keys = [str(key) for key in node if not str(key).startswith("_") and key not in named]
    short = target.rpartition(".")[2]
    unknown = [key for key in keys if key not in takes.names and not takes.open_ended]
    for key in unknown:
        yield f"{path}.{key}: {short} takes no {key!r}{suggest(key, takes.names)}"
    partial = node._get_node("_partial_", validate_access=False)
    if (partial is None or not partial._value()) and not unknown:
        for name in takes.required:
            if name not in keys and name not in PARTS:
                yield f"{path}.{name}: required by {short}; set {path}.{name}=VALUE"


def _across(config: DictConfig) -> Iterator[str]:
    """Rules that no single field can state."""
    trainer = config.trainer
    if trainer.max_epochs is None and trainer.max_steps < 0:
        yield "trainer.max_epochs: set it or trainer.max_steps, or the run never ends"
    for key in ("accumulate_grad_batches",):
        if trainer[key] < 1:
            yield f"trainer.{key}={trainer[key]}: must be at least 1"
    if config.monitor.mode not in ("min", "max"):
        yield f"monitor.mode={config.monitor.mode}: must be min or max"
    if trainer.precision not in PRECISIONS:
        yield (
            f"trainer.precision={trainer.precision}: one of {', '.join(PRECISIONS)}"
            f"{suggest(trainer.precision, PRECISIONS)}"
        )
    yield from _resume(config)
    for part in ("task", "data", "optimizer"):
        if config[part] is None:
            yield f"{part}: nothing chosen; give {part}=OPTION"


def _resume(config: DictConfig) -> Iterator[str]:
    resume = str(config.resume)
    if resume not in ("never", "auto") and not Path(resume).is_file():
        if "://" in resume:
            yield f"resume={resume}: remote checkpoints are refused; copy the file here first"
        else:
            yield f"resume={resume}: no such file; resume takes never, auto or a checkpoint file"
    # A pretrained masked language model is tested as it is; other models have heads to be trained.
    ready = str((config.model or {}).get("_target_", "")).endswith(".PretrainedMLM")
    if not config.train and resume == "never" and not ready:
        yield "train=false: nothing to test; name a checkpoint with resume=PATH or resume=auto"


PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true")
