"""Weights that move from one set to another over the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.constant import checked, pick


class Scheduled(Balancer):
    r"""Weights that go from ``start`` to ``end`` over ``steps`` calls, then stay.

    .. math:: a(k) = a_0 + s(k / K) (a_1 - a_0), \quad s(x) = x
        \text{ or } \tfrac12 (1 - \cos \pi x)

    Args:
        start: (T,) weights at the first step.
        end: (T,) weights after ``steps`` steps.
        steps: K >= 1, in optimizer steps.
        shape: ``"linear"`` or ``"cosine"``.

    Raises:
        ValueError: lengths differ, ``steps`` < 1, or an unknown shape.

    >>> import torch
    >>> rule = Scheduled([1.0, 0.0], [1.0, 1.0], steps=2)
    >>> [rule.weights(None, torch.ones(2)).tolist()[1] for _ in range(4)]
    [0.0, 0.5, 1.0, 1.0]
    """

    def __init__(
        self,
        start: Sequence[float],
        end: Sequence[float],
        *,
        steps: int = 1000,
        shape: Literal["linear", "cosine"] = "linear",
    ) -> None:
        super().__init__()
        self.start, self.end = checked(start, "balancer.start"), checked(end, "balancer.end")
        if len(self.start) != len(self.end):
            raise ValueError(
                f"balancer.start has {len(self.start)} and balancer.end {len(self.end)} entries"
            )
        if steps < 1:
            raise ValueError(f"balancer.steps={steps} must be at least 1")
        if shape not in ("linear", "cosine"):
            raise ValueError(f"balancer.shape={shape!r} is neither 'linear' nor 'cosine'")
        self.steps, self.shape = steps, shape

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The scheduled weights of the live tasks."""
        done = min(self._count("step") / self.steps, 1.0)
        share = done if self.shape == "linear" else 0.5 * (1 - math.cos(math.pi * done))
        now = self.start + share * (self.end - self.start)
        return pick(now, tasks, self._total, "balancer.start")
