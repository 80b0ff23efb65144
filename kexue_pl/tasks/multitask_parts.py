"""How a multi-task model is put together from data, model specification and settings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kexue_pl.balancers import Balancer, Prior, entropy, variance
from kexue_pl.data.subtasks import Subtask, label_key
from kexue_pl.gradients import chosen_parameters
from kexue_pl.tasks.balance import Balance, rows_of
from kexue_pl.tasks.heads import ValueHead, make_head
from kexue_pl.tasks.sharing import Hard, make_sharing
from kexue_pl.tasks.trunks import FeatureTrunk, TextTrunk

Level = Literal["encoding", "parameters"]

__all__ = [
    "check_penalty",
    "choose_level",
    "choose_main",
    "main_index",
    "make_parts",
    "read_parameters",
    "start_prior",
    "tables_of",
]


def make_parts(
    data: Any, model: Any, attention: Any, sharing: str, experts: int, widths: Sequence[int]
) -> tuple[nn.Module, Hard, nn.ModuleList]:
    """Trunk, sharing and heads.

    Raises:
        ValueError: text without a model, or a sharing that an objective cannot have.
    """
    subtasks: list[Subtask] = data.subtasks
    if hasattr(data, "trunk"):
        if sharing != "hard":
            raise ValueError(f"task.sharing={sharing}: an objective without data shares everything")
        values = [ValueHead(task, partial(_one, data, t)) for t, task in enumerate(subtasks)]
        return data.trunk(), Hard(0, len(subtasks)), nn.ModuleList(values)
    if model is not None:
        encoder = model.build(data.tokenizer, attention=attention)
        data.special_tokens = encoder.special_tokens
        tokens = any(task.kind == "tokens" for task in subtasks)
        trunk: FeatureTrunk | TextTrunk = TextTrunk(encoder, model.pooling, tokens=tokens)
    elif hasattr(data, "features"):
        trunk = FeatureTrunk(data.features, list(widths))
    else:
        raise ValueError("model: text needs an encoder; give model=static, small or pretrained")
    hidden = trunk.hidden_size
    heads = nn.ModuleList(make_head(task, hidden) for task in subtasks)
    return trunk, make_sharing(sharing, hidden, len(subtasks), experts), heads


def _one(data: Any, t: int, point: Tensor) -> Tensor:
    value: Tensor = data.losses(point)[t]
    return value


def main_index(main_task: str | None, names: list[str]) -> int | None:
    """Number of the main task.

    Raises:
        ValueError: no task has that name.

    >>> main_index("b", ["a", "b"]), main_index(None, ["a"])
    (1, None)
    """
    if main_task is None:
        return None
    if main_task not in names:
        raise ValueError(f"task.main_task={main_task!r}: expected one of {', '.join(names)}")
    return names.index(main_task)


def choose_level(rule: Balancer, level: str, *, disjoint: bool) -> Level:
    """Where the gradients are taken.

    Raises:
        ValueError: an unknown level, or one that the rule cannot work at.

    >>> from kexue_pl.balancers import MGDA
    >>> choose_level(MGDA(), "auto", disjoint=False), choose_level(MGDA(), "auto", disjoint=True)
    ('encoding', 'parameters')
    """
    if level not in ("auto", "encoding", "parameters"):
        raise ValueError(f"task.level={level!r}: expected auto, encoding or parameters")
    if level == "parameters" or (level == "auto" and rule.needs_matrix):
        return "parameters"
    if rule.needs_matrix:
        raise ValueError(f"balancer: {rule.name} needs task.level=parameters")
    if disjoint and rule.needs_gram:
        if level == "auto":
            return "parameters"
        warnings.warn(
            "task.level=encoding sees no conflict between tasks that bring their own batches (their "
            "Gram is diagonal); use task.level=parameters, or data.sampling=shared",
            stacklevel=2,
        )
    return "encoding"


def choose_main(rule: Balancer, main: int | None, name: str | None) -> None:
    """Tell the rule (or the one that it wraps) which task is the main one, where it has one."""
    inner: Any = getattr(rule, "rule", rule)
    if main is not None and hasattr(inner, "main"):
        inner.main = main


def start_prior(rule: Balancer, data: Any) -> None:
    """Give a prior rule the losses of the best constant predictions on the training labels.

    Raises:
        ValueError: a task whose labels the data does not hold, or all of whose labels are equal.
    """
    inner = getattr(rule, "rule", rule)
    if isinstance(inner, Prior) and not inner.started:
        inner.start(torch.tensor([prior_loss(task, data.train_set) for task in data.subtasks]))


def prior_loss(task: Subtask, rows: Any) -> float:
    """Loss of the best constant prediction of a task, scaled and shifted as the task's own.

    >>> rows = [{"label_a": 0}, {"label_a": 1}, {"label_a": -1}]
    >>> round(prior_loss(Subtask("a", "classes", classes=2, scale=10.0), rows), 3)
    6.931
    """
    key = label_key(task.name)
    if task.kind in ("value", "tokens"):
        raise ValueError(
            f"balancer=prior: task {task.name} has no labels before training; use balancer=initial"
        )
    labels = torch.tensor([row[key] for row in rows])
    if task.kind == "number":
        value = variance(labels[~labels.isnan()])
    else:
        value = entropy(torch.bincount(labels[labels >= 0]))
    return value * task.scale + task.shift


def check_penalty(balancer: Balancer, heads: str) -> None:
    """Raise where tasks are added up by their gradients, which a penalty of the sum cannot precede.

    Raises:
        ValueError: naming what reads gradients, and the way out.
    """
    reads = balancer.needs_gram or balancer.needs_matrix
    if reads or heads == "own":
        what = f"balancer {balancer.name}" if reads else "task.heads=own"
        raise ValueError(
            f"penalty: {what} works on the gradients of single tasks, a penalty on the loss of all; "
            "use a balancer that reads losses alone (balancer=equal, geometric, uncertainty, dwa), "
            "or penalty=none"
        )


def read_parameters(task: Any, patterns: Sequence[str]) -> list[nn.Parameter] | None:
    """The shared parameters whose gradients the rule reads; None for all.

    Raises:
        ValueError: a pattern that fits no parameter, or fits of which the tasks share none, or a
            choice where it has no effect.
    """
    if list(patterns) == ["*"]:
        return None
    if task.level != "parameters" or not task.balancer.needs_gram:
        raise ValueError(
            f"task.read={list(patterns)} chooses parameters for rules that read gradients there: set "
            "task.level=parameters and a balancer like mgda, or task.read=['*']"
        )
    shared = {id(p) for p in task.shared_parameters()}
    found = [p for p in chosen_parameters(task, patterns) if id(p) in shared]
    if not found:
        raise ValueError(f"task.read={list(patterns)} fits no parameter that the tasks share")
    return found


def tables_of(
    history: list[tuple[int, Balance]], names: list[str], descent: Any
) -> dict[str, list[dict[str, Any]]]:
    """Losses, weights, norms and cosines of the recorded steps; the points of a descent."""
    if not history:
        return {}
    return {"balance": rows_of(history, names)} | ({"descent": descent.rows} if descent else {})
