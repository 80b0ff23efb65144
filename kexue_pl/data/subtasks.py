"""What a multi-task data module says of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["MISSING", "Subtask", "label_key", "one_each"]

MISSING = -1
"""Label of a row that has none for a class or pair task; number tasks use NaN."""


@dataclass(frozen=True)
class Subtask:
    """One task of several that share an encoder.

    Args:
        name: part of the metric names.
        kind: ``classes`` (one of K), ``pair`` (do two texts match, 0 or 1), ``number`` (regression),
            ``tokens`` (one of K for each labelled token) or ``value`` (the loss is a function of the
            parameters alone).
        classes: K of a ``classes`` or ``tokens`` task.
        scale: what the loss is multiplied by.
        shift: what is added to it afterwards.

    Raises:
        ValueError: a class task with fewer than two classes, or a scale that is not positive.

    >>> Subtask("digit", "classes", classes=10).name
    'digit'
    """

    name: str
    kind: Literal["classes", "pair", "number", "tokens", "value"]
    classes: int = 0
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if self.kind in ("classes", "tokens") and self.classes < 2:
            raise ValueError(f"task {self.name}: classes={self.classes}, expected at least 2")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"task {self.name}: scale={self.scale}, expected a positive number")


def label_key(name: str) -> str:
    """Key of a task's labels in a row and in a batch.

    >>> label_key("relation")
    'label_relation'
    """
    return f"label_{name}"


def one_each(values: Sequence[float] | None, tasks: int, fill: float, key: str) -> list[float]:
    """A number for each task; ``fill`` for all where nothing is given.

    Raises:
        ValueError: another number of values than tasks.

    >>> one_each(None, 2, 1.0, "data.scales"), one_each([1, 100], 2, 1.0, "data.scales")
    ([1.0, 1.0], [1.0, 100.0])
    """
    if values is None:
        return [fill] * tasks
    if len(values) != tasks:
        raise ValueError(f"{key}={list(values)}: expected {tasks} numbers, one a task")
    return [float(v) for v in values]
