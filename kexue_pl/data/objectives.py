"""Data modules without data: the losses are functions of a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kexue_pl.data.base import DataModule
from kexue_pl.data.subtasks import Subtask

__all__ = ["Objectives", "Point"]


class Point(nn.Module):
    """The trunk of a problem without data: the point itself."""

    def __init__(self, start: Sequence[float]) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([float(v) for v in start]))

    def forward(self, batch: Any) -> Tensor:
        """The point, (D,), whatever the batch."""
        return self.x * 1.0


class Objectives(DataModule):
    """Base of problems whose losses are given functions of a point; an epoch is ``steps`` steps.

    Args:
        tasks: number of losses.
        steps: optimizer steps of an epoch.
        start: where the descent begins.
        seed: see :class:`DataModule`.
    """

    def __init__(self, *, tasks: int, steps: int, start: Sequence[float], seed: int = 0) -> None:
        super().__init__(batch_size=1, seed=seed)
        if steps < 1:
            raise ValueError(f"data.steps={steps}: expected at least 1")
        self.steps, self.start = steps, [float(v) for v in start]
        self.subtasks = [Subtask(f"f{i + 1}", "value") for i in range(tasks)]

    def setup(self, stage: str) -> None:
        """One row a step, one for each evaluation."""
        self.train_set = [{} for _ in range(self.steps)]
        self.valid_set, self.test_set = [{}], [{}]

    def trunk(self) -> nn.Module:
        """The point."""
        return Point(self.start)

    def losses(self, point: Tensor) -> list[Tensor]:
        """The T losses at a point (D,)."""
        raise NotImplementedError

    def front(self, count: int) -> list[Tensor]:
        """About ``count`` points (D,) of the Pareto set."""
        raise NotImplementedError

    def measure(self, point: Tensor) -> dict[str, float]:
        """What is known of a point, for the metrics of the test."""
        raise NotImplementedError
