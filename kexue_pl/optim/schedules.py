"""Learning-rate schedules over a known number of optimizer steps."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["constant", "cosine", "linear"]


def _warmup(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / (steps + 1)) if steps else 1.0


def _warmup_steps(warmup: float, total_steps: int) -> int:
    if not 0 <= warmup <= 1:
        raise ValueError(f"scheduler.warmup={warmup}: a share of all steps, between 0 and 1")
    return round(warmup * total_steps)


def constant(optimizer: Optimizer, *, total_steps: int, warmup: float = 0.0) -> LambdaLR:
    """The rate as given, after a linear rise over the share `warmup` of `total_steps`."""
    rise = _warmup_steps(warmup, total_steps)
    return LambdaLR(optimizer, lambda step: _warmup(step, rise))


def linear(optimizer: Optimizer, *, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """Linear rise over the share `warmup` of `total_steps`, then linear fall to 0 at the end."""
    rise = _warmup_steps(warmup, total_steps)

    def factor(step: int) -> float:
        left = max(0.0, (total_steps - step) / max(1, total_steps - rise))
        return min(_warmup(step, rise), left)

    return LambdaLR(optimizer, factor)


def cosine(
    optimizer: Optimizer, *, total_steps: int, warmup: float = 0.1, floor: float = 0.0
) -> LambdaLR:
    """Linear rise, then ``floor + (1 - floor) (1 + cos(pi t)) / 2`` with t from 0 to 1."""
    rise = _warmup_steps(warmup, total_steps)

    def factor(step: int) -> float:
        done = min(1.0, max(0.0, (step - rise) / max(1, total_steps - rise)))
        return _warmup(step, rise) * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)

    return LambdaLR(optimizer, factor)
