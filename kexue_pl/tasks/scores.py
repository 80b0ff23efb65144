"""Means of the tasks' metrics over all rows of all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import device as Device

from kexue_pl.distributed import all_reduce_sum
from kexue_pl.tasks.heads import Head, Scores

__all__ = ["TaskScores"]


class TaskScores:
    """Collects sums and counts of every metric of every task.

    Args:
        names: of the tasks.
        heads: of the tasks, in the same order.
    """

    def __init__(self, names: Sequence[str], heads: Sequence[Head]) -> None:
        self.names, self.heads = list(names), list(heads)
        self._sums: dict[tuple[int, str], list[float]] = {}

    def add(self, t: int, scores: Scores) -> None:
        """Take the sums and counts of a batch of task t."""
        for key, (total, count) in scores.items():
            entry = self._sums.setdefault((t, key), [0.0, 0.0])
            entry[0] += total
            entry[1] += count

    def reduce(self, device: Device, main: int | None) -> dict[str, float]:
        """Means over all ranks by metric name, ``score`` and ``loss``; the sums start anew.

        ``score`` is the mean over the tasks (or that of the main task) of the accuracy, where there
        is none of minus the loss; ``loss`` is the sum of the tasks' losses.
        """
        keys = [(t, key) for t, head in enumerate(self.heads) for key in head.metrics]
        local = torch.tensor([self._sums.get(key, [0.0, 0.0]) for key in keys])
        self._sums = {}
        sums = all_reduce_sum(local.to(device)).cpu().double()
        means = {key: float(total / count) for key, (total, count) in zip(keys, sums) if count > 0}
        out = {
            f"loss/{self.names[t]}" if key == "loss" else f"{self.names[t]}/{key}": value
            for (t, key), value in means.items()
        }
        chosen = range(len(self.names)) if main is None else [main]
        scores = [means.get((t, "accuracy"), -means.get((t, "loss"), 0.0)) for t in chosen]
        out["score"] = sum(scores) / len(scores)
        out["loss"] = sum(value for (_, key), value in means.items() if key == "loss")
        return out
