"""Turns a checked configuration into the parts of a run; the one place where targets are called."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from kexue_pl.run.config import PARTS
from kexue_pl.run.errors import ConfigError
from kexue_pl.run.targets import resolve

__all__ = ["build", "build_dict", "build_task"]


def build(node: Any, key: str = "config", **parts: Any) -> Any:
    """The object that a plain node describes; nodes inside are built first, others are copied.

    A node with `_partial_: true` gives a `functools.partial`. `parts` are further keyword arguments.

    >>> build({"a": [1, {"b": 2}]})
    {'a': [1, {'b': 2}]}
    """
    if isinstance(node, list):
        return [build(item, f"{key}[{number}]") for number, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    arguments = {
        str(name): build(value, f"{key}.{name}")
        for name, value in node.items()
        if not str(name).startswith("_")
    }
    if "_target_" not in node:
        return arguments
    if unknown := [
        k for k in node if str(k).startswith("_") and k not in ("_target_", "_partial_")
    ]:
        raise ConfigError([f"{key}.{unknown[0]}: not accepted beside _target_"])
    found = resolve(node["_target_"], f"{key}._target_")
    arguments = _floats(found, arguments)
    if node.get("_partial_"):
        return functools.partial(found, **arguments)
    try:
        return found(**arguments, **parts)
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{key}: {error}"]) from error


def _floats(found: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Whole numbers as floats where one is asked for: `dropout=0` is refused by configurations of
    transformers, which check types strictly."""
    try:
        takes = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return arguments

    def real(name: str, value: Any) -> bool:
        asked = takes[name].annotation if name in takes else None
        return type(value) is int and asked in (float, "float", "float | None")

    return {name: float(v) if real(name, v) else v for name, v in arguments.items()}


def build_dict(nodes: dict[str, Any] | None, key: str) -> list[Any]:
    """The objects of a dict of nodes in order; null nodes are left out."""
    return [build(node, f"{key}.{name}") for name, node in (nodes or {}).items() if node]


def build_task(config: dict[str, Any], data: Any, model: Any) -> Any:
    """The task, with those parts that its constructor asks for by name.

    Args:
        config: the plain configuration.
        data: the data module, set up and with its tokenizer.
        model: the model specification, or None.
    """
    takes = inspect.signature(resolve(config["task"]["_target_"], "task._target_")).parameters
    ready = {"data": data, "model": model}
    wanted = [part for part in PARTS if part in takes and part not in config["task"]]
    parts = {part: ready[part] if part in ready else build(config[part], part) for part in wanted}
    for part in wanted:
        if parts[part] is None and takes[part].default is inspect.Parameter.empty:
            raise ConfigError(
                [f"{part}: task={config['task']['name']} needs one; give {part}=OPTION"]
            )
    node = {
        name: value for name, value in config["task"].items() if name != "name" or "name" in takes
    }
    # transformers loads in evaluation mode, which Lightning keeps: dropout would stay off for good.
    return build(node, "task", **parts).train()
