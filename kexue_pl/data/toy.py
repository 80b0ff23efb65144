"""The two-objective toy problem of the CAGrad and Nash-MTL papers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kexue_pl.data.objectives import Objectives

__all__ = ["Toy", "toy_losses"]

FRONT = -8.3552
"""x2 of the Pareto front; it reaches from x1 = -7 to 7."""


class Toy(Objectives):
    """Two losses over the plane with a steep valley between the start points and the front.

    Liu et al. 2021 (arXiv 2110.14048; scale 1, Adam 1e-3, 100000 steps) and Navon et al. 2022 (arXiv
    2202.01017; first loss times 0.1, 35000 steps). Plain descent from (-8.5, 7.5) never arrives.

    Args:
        steps: optimizer steps of an epoch.
        start: x1 and x2 at the start.
        scale: factor of the first loss.
        seed: see :class:`DataModule`.
    """

    def __init__(
        self,
        *,
        steps: int = 1000,
        start: Sequence[float] = (-8.5, 7.5),
        scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(tasks=2, steps=steps, start=start, seed=seed)
        if len(self.start) != 2 or scale <= 0:
            raise ValueError(f"data.start={self.start}: two numbers; data.scale={scale}: above 0")
        self.scale = scale

    def losses(self, point: Tensor) -> list[Tensor]:
        """Both losses, the first one scaled."""
        first, second = toy_losses(point)
        return [first * self.scale if self.scale != 1 else first, second]

    def front(self, count: int) -> list[Tensor]:
        """Points from (-7, -8.3552) to (7, -8.3552)."""
        return [torch.tensor([float(x), FRONT]) for x in torch.linspace(-7, 7, count)]

    def measure(self, point: Tensor) -> dict[str, float]:
        """The place and the height over the front."""
        x1, x2 = point.detach().tolist()
        return {"x1": x1, "x2": x2, "front_distance": abs(x2 - FRONT) + max(0.0, abs(x1) - 7)}


def toy_losses(point: Tensor) -> tuple[Tensor, Tensor]:
    r"""Both losses at (x1, x2).

    .. math:: f_i = c_1 \big(\log \max(|a_i|, 5\cdot 10^{-6}) + 6\big) + c_2 \big((x_1 \mp 7)^2 / 10
        + (x_2 + 8)^2 / 100 - 20\big), \quad c_1 = \max(\tanh \tfrac{x_2}{2}, 0), \;
        c_2 = \max(-\tanh \tfrac{x_2}{2}, 0)

    with :math:`a_1 = -\tfrac12 (x_1 + 7) + \tanh x_2` and
    :math:`a_2 = \tfrac12 (3 - x_1) - \tanh x_2 + 2`; toy.py of the CAGrad paper.

    >>> import torch
    >>> [round(float(f), 3) for f in toy_losses(torch.tensor([0.0, -8.0]))]
    [-15.09, -15.09]
    """
    x1, x2 = point[0], point[1]
    c1, c2 = (x2 * 0.5).tanh().clamp_min(0), (-x2 * 0.5).tanh().clamp_min(0)
    upper = (
        (0.5 * (-x1 - 7) - (-x2).tanh()).abs().clamp_min(5e-6).log() + 6,
        (0.5 * (-x1 + 3) + (-x2).tanh() + 2).abs().clamp_min(5e-6).log() + 6,
    )
    bowl = 0.1 * (x2 + 8).square()
    lower = (((-x1 + 7).square() + bowl) / 10 - 20, ((-x1 - 7).square() + bowl) / 10 - 20)
    return upper[0] * c1 + lower[0] * c2, upper[1] * c1 + lower[1] * c2
