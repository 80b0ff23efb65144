"""Where a descent over a problem without data went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from kexue_pl.data.objectives import Objectives

__all__ = ["DescentRecord"]


class DescentRecord:
    """Points of a descent with their losses and what the problem knows of them.

    Args:
        data: the problem.
    """

    def __init__(self, data: Objectives) -> None:
        self.data = data
        self.rows: list[dict[str, Any]] = []

    def add(self, step: int, point: Tensor) -> dict[str, float]:
        """Keep a point; its measures."""
        x = point.detach().double().cpu()
        known = self.data.measure(x)
        self.rows.append(
            {"step": step}
            | {f"x{i + 1}": float(v) for i, v in enumerate(x)}
            | {f"f{i + 1}": float(f) for i, f in enumerate(self.data.losses(x))}
            | known
        )
        return known

    def plots(self, folder: Path) -> list[Path]:
        """The plane, the losses and the distance to the front."""
        from kexue_pl.report.descents import plot_descents

        return plot_descents(self.data, {"descent": self.rows}, folder)
