"""Random loss weighting."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer


class RLW(Balancer):
    r"""Random weights anew at every step, :math:`a = T\,\mathrm{softmax}(z)`, z standard normal.

    Lin et al. 2022 (arXiv 2111.10603): a baseline that any rule should beat. The numbers depend on
    ``seed``, the step and the task alone, so ranks agree and a resumed run goes on as it would.

    Args:
        seed: of the draws.

    >>> import torch
    >>> a, b = (RLW(seed=1).weights(None, torch.ones(3)) for _ in range(2))
    >>> bool((a == b).all()), round(float(a.sum()), 4)
    (True, 3.0)
    """

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The draws of this step."""
        generator = step_generator(self.seed, self._count("step"))
        draws = torch.randn(self._total, generator=generator, dtype=torch.float64)
        return len(tasks) * torch.softmax(draws[tasks], 0)


def step_generator(seed: int, step: int) -> torch.Generator:
    """A generator that depends on seed and step alone: the same on every rank and after a resume.

    >>> import torch
    >>> float(torch.rand((), generator=step_generator(0, 3))) == float(
    ...     torch.rand((), generator=step_generator(0, 3)))
    True
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
